"""The CKCNN: blocks of convolutions with continuous kernels.

Romero et al. 2022 (CKConv, arXiv:2102.02611); with the default settings each choice is that of the
published code.

Shapes: B batch, C channels in, D hidden channels, T time.
"""

from __future__ import annotations

from torch import Generator, Tensor, nn

from ckconv_sweep.config.model import BLOCKS, READOUTS, CKCNNConfig
from ckconv_sweep.models.ckconv import CKConv
from ckconv_sweep.models.masks import Masks
from ckconv_sweep.models.sequence_model import Penalty, Sampling, SequenceModel, matched


class CKCNN(SequenceModel):
    """Dropout places: 0 is the input; those of the blocks, see `blocks.Block`."""

    def build(
        self, config: CKCNNConfig, in_channels: int, length: int, generator: Generator | None
    ) -> None:
        self.config = config
        block, hidden = BLOCKS.maker(config.block), config.hidden_channels
        self.encoder: nn.Module = nn.Identity()
        if block.needs_hidden_channels:
            self.encoder, in_channels = matched(in_channels, hidden, generator), hidden
        channels = [in_channels] + [hidden] * (config.blocks - 1)
        self.blocks = nn.ModuleList(
            block(config, channels_in, length, number, generator)
            for number, channels_in in enumerate(channels)
        )

    def hidden(
        self, x_BCT: Tensor, masks: Masks | None, sampling: Sampling
    ) -> tuple[Tensor, Penalty]:
        h_BDT: Tensor = self.encoder(x_BCT)
        penalties: list[Penalty] = []
        of_last_step = READOUTS[self.config.readout].of_last_step and sampling.present_B1T is None
        for number, block in enumerate(self.blocks, start=1):
            last = number == len(self.blocks) and of_last_step
            h_BDT, penalty = block(h_BDT, masks, sampling, last=last)
            penalties.append(penalty)
        return h_BDT, lambda: sum((more() for more in penalties[1:]), penalties[0]())

    def learning_rate_factors(self) -> dict[str, float]:
        return {
            f"{name}.{parameter}": factor
            for name, module in self.named_modules()
            if isinstance(module, CKConv)
            for parameter, factor in module.learning_rate_factors().items()
        }
