"""mmplane: the multimodal data plane of tensor-parallel inference servers."""

__version__ = "0.1.0"
