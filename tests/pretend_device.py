"""A device that is none: tensors on the CPU that say they are elsewhere, and refuse to meet those that are not.

What a GPU would refuse is refused: operations on tensors of two devices (a CPU scalar, and CPU indices, are allowed, as
on a GPU), random numbers from a CPU generator, arrays of numpy made of it. Everything else computes on the CPU.
"""

from contextlib import contextmanager
from copy import deepcopy

import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("lazy", 0)
_aten = torch.ops.aten
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class Elsewhere(torch.Tensor):
    """A tensor on the pretended device; ``held`` is what it stands for."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held):
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self, **_):
        return f"Elsewhere({self.held})"

    def tolist(self):
        return self.held.tolist()  # torch's own copies to the CPU, but not for subclasses

    def __reduce_ex__(self, protocol):
        return self.held.detach().__reduce_ex__(protocol)  # a file does not know the device

    def __deepcopy__(self, memo):
        copy = Elsewhere(deepcopy(self.held, memo)).requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        memo[id(self)] = copy
        return copy

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return run(func, args, kwargs or {})


def run(func, args, kwargs):
    """One operation, as the dispatcher calls it."""
    name = func._schema.name.partition("::")[2]
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
    there = [tensor for tensor in tensors if isinstance(tensor, Elsewhere)]
    here = [tensor for tensor in tensors if not isinstance(tensor, Elsewhere)]
    asked = kwargs.get("device")
    moves = name in ("_to_copy", "copy_")
    if there and not moves:
        met = [tensor for tensor in here if tensor.ndim > 0]
        if name in _INDEXING and isinstance(args[0], Elsewhere):
            values = args[2:3]
            met = [tensor for tensor in met if any(tensor is value for value in values)]
        if met:
            shapes = [tuple(tensor.shape) for tensor in met]
            raise RuntimeError(f"{func}: tensors on the CPU {shapes} meet tensors on the device")
    if name in _INDEXING and here and here[0] is args[0] and there:
        raise RuntimeError(f"{func}: a tensor on the CPU is indexed by one on the device")
    goes = torch.device(asked) if asked is not None else None
    elsewhere = goes.type == DEVICE.type if goes is not None else bool(there)
    generator = kwargs.get("generator")
    if elsewhere and generator is not None:
        raise RuntimeError(f"{func}: random numbers of a CPU generator are asked for on the device")
    if goes is not None and elsewhere:
        kwargs = kwargs | {"device": torch.device("cpu")}
    if name == "_to_copy" and kwargs.get("pin_memory"):
        kwargs = kwargs | {"pin_memory": False}
    bare_args, bare_kwargs = tree_map(_held, (args, kwargs))
    result = func(*bare_args, **bare_kwargs)
    if name == "_local_scalar_dense" or not elsewhere:
        return args[0] if name == "copy_" else result
    changed = {id(_held(tensor)): tensor for tensor in there}
    return tree_map(lambda value: _found(value, changed), result)


def _held(value):
    return value.held if isinstance(value, Elsewhere) else value


def _found(value, changed):
    """An operation in place returns the tensor that it was given."""
    if not isinstance(value, torch.Tensor) or isinstance(value, Elsewhere):
        return value
    return changed.get(id(value)) if id(value) in changed else Elsewhere(value)


class _Everything(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        with self:  # what consists of other operations goes through them one by one, in inference mode as well
            composed = func.decompose(*args, **(kwargs or {}))
        return run(func, args, kwargs or {}) if composed is NotImplemented else composed


@contextmanager
def pretending():
    """Inside there is such a device."""
    known, lifts = torch.amp.autocast_mode.autocast.__init__, torch._C._only_lift_cpu_tensors()

    def autocast(self, device_type, *args, **kwargs):
        known(self, "cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)

    torch.amp.autocast_mode.autocast.__init__ = autocast  # it knows a fixed set of devices
    torch._C._set_only_lift_cpu_tensors(True)  # ``torch.tensor(..., device=...)`` then moves by an operation
    try:
        with _Everything():
            yield
    finally:
        torch.amp.autocast_mode.autocast.__init__ = known
        torch._C._set_only_lift_cpu_tensors(lifts)


class PretendStrategy(SingleDeviceStrategy):
    """Lightning on that device."""

    def __init__(self):
        super().__init__(device=DEVICE)

    def setup_environment(self):
        pass  # the accelerator of the CPU would refuse the device
