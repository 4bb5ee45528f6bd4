from ckconv_sweep.api import Best as Best
from ckconv_sweep.api import Sweep as Sweep
from ckconv_sweep.loading import load as load
from ckconv_sweep.start import Run as Run
from ckconv_sweep.start import extend as extend
from ckconv_sweep.start import launch as launch
from ckconv_sweep.start import resume as resume
from ckconv_sweep.start import train as train

__version__: str
