"""Fake tensors, made quickly.

Half of what creating a node costs is FakeTensor's constructor, which checks for each tensor what
is the same for all of one mode and device, and sets the same attributes. Of torch 2.13 this is
known, so there the attributes of the first are given to the others; elsewhere, and where torch is
told to trace or track its fake tensors, the constructor makes them all.
"""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorConfig, FakeTensorMode

_KNOWN = torch.__version__.startswith("2.13.")


class Fakes:
    """Makes fake tensors of one mode over tensors on the meta device.

    Call it with dispatch to Python disabled.
    """

    def __init__(self, mode: FakeTensorMode) -> None:
        self.mode = mode
        # Data of a fake tensor may not be reached for; how loudly, its mode says.
        self._guard = (
            torch._C._set_warn_deprecated_on_mutable_data_ptr
            if mode._allow_unsafe_data_ptr_access
            else torch._C._set_throw_on_mutable_data_ptr
        )
        self._alike: dict[torch.device, dict[str, object]] = {}
        self._quick = _KNOWN and not FakeTensorConfig.debug and not torch.compiler.is_exporting()

    def __call__(self, meta: torch.Tensor, device: torch.device) -> FakeTensor:
        alike = self._alike.get(device)
        if alike is None:
            made = FakeTensor(self.mode, meta, device)
            if self._quick and made.fake_device == device:
                self._alike[device] = dict(vars(made))
            return made
        made = torch.Tensor._make_subclass(
            FakeTensor, meta, False, dispatch_device=True, device_for_backend_keys=device
        )
        self._guard(made)
        vars(made).update(alike)
        return made
