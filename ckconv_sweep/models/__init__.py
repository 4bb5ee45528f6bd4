"""What a CKCNN is: convolution, kernel net, block, network. Knows torch and config only.

A module here is a function of its parameters, its input and the masks handed to it: a forward pass
draws no random number, changes no buffer and reads nothing back from the device, so that
`torch.func` can run many models of one shape at once.
"""
