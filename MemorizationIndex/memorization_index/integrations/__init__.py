"""Where models are trained: how much of what a generator makes is copied, while it is being trained.

Each module needs its own framework, and importing this package imports none (``pip install
'.[training]'`` in the clone installs all): :mod:`~memorization_index.integrations.metric` torchmetrics,
:mod:`~memorization_index.integrations.lightning_callback` Lightning,
:mod:`~memorization_index.integrations.monai_handler` Ignite, on which MONAI's engines run.
:mod:`~memorization_index.integrations.samples`, which they share, needs NumPy alone.
"""
