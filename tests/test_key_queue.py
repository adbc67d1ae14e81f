import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.losses import MultiPositiveInfoNCE
from gaze_lightning.models import KeyQueue


def keys_and_identities(first, number, dim=3):
    """Keys that are known by their identities."""
    films = torch.arange(first, first + number)
    generator = torch.Generator().manual_seed(first)
    return torch.randn(number, dim, generator=generator), torch.stack([films, films + 1000, films + 2000], dim=1)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 9), st.lists(st.integers(0, 25), max_size=8))
def test_the_queue_holds_the_last_keys_with_their_identities(size, pushes):
    """Against a list of slots that are filled one by one."""
    queue, slots, pushed = KeyQueue(size, 3), [None] * size, 0
    for number in pushes:
        keys, identities = keys_and_identities(pushed, number)
        queue.push(keys, identities)
        for key, identity in zip(keys, identities, strict=True):
            slots[pushed % size] = (key / key.norm(), identity)
            pushed += 1
        assert queue.filled.tolist() == [slot is not None for slot in slots]
        assert queue.count.item() == min(pushed, size)
        assert queue.pointer.item() == pushed % size
        for slot, key, identity in zip(slots, queue.keys, queue.identities, strict=True):
            expected = slot or (torch.zeros(3), torch.full((3,), -1))
            torch.testing.assert_close((key, identity), expected)


def test_an_empty_queue_knows_nobody():
    queue = KeyQueue(5, 2)
    assert not queue.filled.any()
    assert (queue.identities == -1).all()
    assert not queue.keys.any()


def test_keys_are_stored_with_unit_length_without_gradient_and_in_float32():
    queue = KeyQueue(4, 8)
    keys = (100 * torch.randn(3, 8, generator=torch.Generator().manual_seed(0))).bfloat16().requires_grad_()
    queue.push(keys, keys_and_identities(0, 3)[1])
    torch.testing.assert_close(queue.keys[:3].norm(dim=1), torch.ones(3))
    assert queue.keys.dtype == torch.float32
    assert not queue.keys.requires_grad
    queue.push(torch.zeros(1, 8), torch.zeros(1, 3, dtype=torch.int64))
    assert not queue.keys[3].any()
    assert queue.filled.all()


def test_the_queue_goes_on_from_a_checkpoint():
    one, other = KeyQueue(5, 3), KeyQueue(5, 3)
    one.push(*keys_and_identities(0, 7))
    other.load_state_dict(one.state_dict())
    for queue in (one, other):
        queue.push(*keys_and_identities(7, 4))
    assert set(one.state_dict()) == {"keys", "identities", "pointer", "count"}
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)
    assert sorted(one.identities[:, 0].tolist()) == [6, 7, 8, 9, 10]


def test_pushing_between_forward_and_backward_does_not_disturb_the_gradient():
    queue, gradients = KeyQueue(4, 3), []
    queue.push(*keys_and_identities(0, 4))
    key, identities = keys_and_identities(4, 2)
    for early in (False, True):
        query = keys_and_identities(9, 2)[0].requires_grad_()
        nothing = torch.zeros(2, 4, dtype=torch.bool)
        loss = MultiPositiveInfoNCE()(query, key, queue.keys, nothing, queue.filled.expand(2, -1))
        if early:
            queue.push(key, identities)
        loss.backward()
        gradients.append(query.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)
    torch.testing.assert_close(queue.keys[:2], F.normalize(key, dim=1))


def test_other_shapes_are_refused():
    for size, dim in ((0, 3), (3, 0)):
        with pytest.raises(ConfigurationError, match="at least 1"):
            KeyQueue(size, dim)
    queue = KeyQueue(4, 3)
    for keys, identities in (((2, 4), (2, 3)), ((2, 3), (3, 3)), ((2, 3), (2, 2))):
        with pytest.raises(ValueError, match="expected keys"):
            queue.push(torch.zeros(keys), torch.zeros(identities, dtype=torch.int64))
