"""What the ranks' tests share."""

import torch

torch.set_num_threads(1)  # tensors are tiny here: a second thread only waits for a core
