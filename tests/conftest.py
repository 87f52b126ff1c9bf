"""One thread for local kernels: the tests' arrays are small, and idle threads of several processes get in each other's way."""

import torch

torch.set_num_threads(1)
