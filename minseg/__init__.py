"""minseg: semantic segmentation from scratch, every line between a pixel and its label."""

from minseg import functional
from minseg.cuda import set_tf32
from minseg.tensor import Tensor, no_grad
from minseg.threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = ["Tensor", "functional", "get_num_threads", "no_grad", "set_num_threads", "set_tf32"]
