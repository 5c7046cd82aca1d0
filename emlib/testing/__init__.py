"""What an operator or a sampler must hold to: for ours and for yours, as scikit-learn's ``check_estimator`` is."""

from emlib.testing.operators import check_operator
from emlib.testing.samplers import check_sampler

__all__ = ["check_operator", "check_sampler"]
