"""What is made quickly is what the constructor makes."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ir.compilation.fakes import Fakes


@pytest.mark.parametrize("unsafe", [True, False])
@pytest.mark.parametrize("device", ["cpu", "cuda:0"])
def test_a_fake_made_quickly_is_one_that_the_constructor_makes(unsafe: bool, device: str):
    mode = FakeTensorMode()
    mode._allow_unsafe_data_ptr_access = unsafe
    fakes, where = Fakes(mode), torch.device(device)
    with torch._C._DisableTorchDispatch():
        metas = [torch.empty(n, 4, dtype=torch.bfloat16, device="meta") for n in (2, 3)]
        quick = [fakes(meta, where) for meta in metas]
        slow = [FakeTensor(mode, meta, where) for meta in metas]
    for a, b in zip(quick, slow, strict=True):
        assert vars(a) == vars(b)
        assert torch._C._dispatch_keys(a) == torch._C._dispatch_keys(b)
        assert (a.shape, a.dtype, a.device, a.requires_grad) == (b.shape, b.dtype, where, False)
        assert a.untyped_storage()._cdata == b.untyped_storage()._cdata
    with mode:
        assert (quick[1] + 1).shape == (3, 4)
    if not unsafe:
        with pytest.raises(RuntimeError, match=r"data_ptr|data pointer"):
            quick[1].data_ptr()
