"""Copy evidence in synthetic MRI: which slices of a synthetic set copy which training scan, and how sure that is."""

from memorization_index._version import __version__

__all__ = ["__version__"]
