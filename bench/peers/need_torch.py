"""PyTorch, or one clear line and exit status 1; and the settings that every timing shares."""

import platform
import sys

try:
    import torch
except ImportError:
    sys.exit(f"bench/peers needs PyTorch 2.4 or later (pip install torch), not in {sys.executable}")

CPU_THREADS = 2


def prepare(device: str) -> str:
    """Settings for fair timings (full fp32, tuned convolutions); returns what is measured."""
    if device == "cpu":
        torch.set_num_threads(CPU_THREADS)
        return f"CPU ({platform.machine()}, {CPU_THREADS} threads), PyTorch {torch.__version__}"
    if not torch.cuda.is_available():
        sys.exit("bench/peers: --device cuda needs a CUDA device, and this PyTorch sees none")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    return f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}"
