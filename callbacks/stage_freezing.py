"""What a stage freezes in a model."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from torch import nn

from callbacks.stage import Stage


class StageFreezing:
    """Freeze parts of one model, and give them back as they were.

    Parameters that never train and modules that are in evaluation mode from the start stay so in every stage.

    Args:
        model: as it is before the first stage.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._trainable = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
        self._modes = {name: module.training for name, module in model.named_modules() if name}
        self._held: list[nn.Module] = []

    def unmatched(self, stage: Stage) -> list[str]:
        """Patterns of a stage that match nothing."""
        patterns = [*(stage.train or []), *stage.freeze]
        return [pattern for pattern in patterns if not any(True for _ in _matching(self._model, [pattern]))]

    def trained(self, stage: Stage) -> list[nn.Parameter]:
        """Parameters that a stage trains."""
        frozen = self._frozen_parameters(stage)
        named = self._model.named_parameters()
        return [value for name, value in named if self._trainable[name] and id(value) not in frozen]

    def apply(self, stage: Stage, evaluate: bool) -> None:
        """Freeze what a stage freezes, and nothing else.

        Args:
            stage: the stage.
            evaluate: put frozen modules into evaluation mode.
        """
        self.restore()
        frozen = self._frozen_parameters(stage)
        for parameter in self._model.parameters():
            if id(parameter) in frozen:
                parameter.requires_grad = False
                parameter.grad = None
        self._held = self._frozen_modules(stage) if evaluate else []
        self.hold()

    def hold(self) -> None:
        """Put frozen modules back into evaluation mode, if anything has taken them out of it."""
        for module in self._held:
            if module.training:
                module.training = False

    def restore(self) -> None:
        """Undo all of it."""
        self._held = []
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad = self._trainable.get(name, parameter.requires_grad)
        for name, module in self._model.named_modules():
            module.training = self._modes.get(name, module.training)

    def _frozen_parameters(self, stage: Stage) -> set[int]:
        frozen = _parameters(_matching(self._model, stage.freeze))
        if stage.train is not None:
            frozen |= {id(value) for value in self._model.parameters()} - _parameters(
                _matching(self._model, stage.train)
            )
        return frozen

    def _frozen_modules(self, stage: Stage) -> list[nn.Module]:
        frozen = _modules(_matching(self._model, stage.freeze))
        if stage.train is not None:
            trained = list(_matching(self._model, stage.train))
            around = {name[:end] for name, _ in trained for end in _path_ends(name)}  # what holds something that trains
            modules = self._model.named_modules(remove_duplicate=False)
            live = _modules(trained) | {id(module) for name, module in modules if name in around}
            frozen |= {id(module) for module in self._model.modules()} - live
        return [module for module in self._model.modules() if id(module) in frozen]


Part = tuple[str, nn.Module | nn.Parameter]


def _matching(model: nn.Module, patterns: Iterable[str]) -> Iterator[Part]:
    """Modules and parameters whose path matches a pattern; what two paths lead to appears under both."""
    patterns = list(patterns)
    for name, module in model.named_modules(remove_duplicate=False):
        if name and any(fnmatchcase(name, pattern) for pattern in patterns):
            yield name, module
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            yield name, parameter


def _parameters(parts: Iterable[Part]) -> set[int]:
    lists = [part.parameters() if isinstance(part, nn.Module) else [part] for _, part in parts]
    return {id(parameter) for found in lists for parameter in found}


def _modules(parts: Iterable[Part]) -> set[int]:
    return {id(module) for _, part in parts if isinstance(part, nn.Module) for module in part.modules()}


def _path_ends(name: str) -> list[int]:
    return [0, *(index for index, character in enumerate(name) if character == ".")]
