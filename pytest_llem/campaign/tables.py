"""Keys by dotted path, taken from pydantic models: types, defaults, and the nearest name for a wrong one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)
from pydantic.fields import FieldInfo

from pytest_llem.campaign.findings import did_you_mean

_NUMBERS = ConfigDict(allow_inf_nan=False)
_VALIDATORS: Mapping[str, Callable[..., Any]] = {
    "before": BeforeValidator,
    "after": AfterValidator,
    "plain": PlainValidator,
    "wrap": WrapValidator,
}


@dataclass(frozen=True, eq=False)
class Key:
    """One key that takes a value.

    Attributes:
        name: dotted path.
        annotation: the type, with pydantic's metadata.
        default: None for a required key.
    """

    name: str
    annotation: Any
    default: Any
    required: bool = False

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.annotation, config=_NUMBERS)

    @cached_property
    def takes_list(self) -> bool:
        """Whether a list is one value of this key."""
        return any(get_origin(option) in (tuple, list) for option in _options(self.annotation))

    def check(self, value: Any) -> Any:
        """Return a plain value as this key's type. None is the default; 1e3 is a whole number.

        Raises:
            pydantic.ValidationError: its places are relative to `value`.
        """
        if value is None and not self.required:
            return self.default
        try:
            return self._validated(value)
        except ValidationError as error:
            if any(detail["type"] == "int_type" for detail in error.errors()):
                return self._validated(_integral(value))
            raise

    def _validated(self, value: Any) -> Any:
        # JSON's strict mode is the one that takes a list for a tuple and "0" for the key 0, and nothing else.
        if isinstance(value, list | dict):
            return self._adapter.validate_json(json.dumps(value), strict=True)
        return self._adapter.validate_python(value, strict=True)


def _integral(value: Any) -> Any:
    """Return `value` with every float that is a whole number as an int."""
    if isinstance(value, list):
        return [_integral(item) for item in value]
    if isinstance(value, dict):
        return {key: _integral(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _bare(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _options(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type itself; metadata is left out."""
    bare = _bare(annotation)
    members = get_args(bare) if get_origin(bare) in (Union, UnionType) else (bare,)
    return tuple(map(_bare, members))


# --- Tables ---


@dataclass(frozen=True)
class Table:
    """All keys of one kind of mapping by dotted path.

    Attributes:
        sections: paths of the mappings in it.
        optional: those of them that may be null, which is then a value of its own.
        short: names that stand for keys, only to be suggested.
    """

    keys: Mapping[str, Key]
    sections: frozenset[str]
    optional: frozenset[str]
    short: tuple[str, ...] = ()

    def unknown(self, name: str) -> str:
        """Return what to say of a name that is not in the table; its neighbours are suggested first."""
        section, _, last = name.rpartition(".")
        known = [*self.short, *self.keys, *sorted(self.sections)]
        siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == section]
        return "unknown key" + (did_you_mean(last, siblings) or did_you_mean(name, known))

    def below(self, section: str) -> list[str]:
        """Return the keys of a section, without its name."""
        return [name.removeprefix(f"{section}.") for name in self.keys if name.startswith(f"{section}.")]


def table_of(model: type[BaseModel], prefix: str = "") -> Table:
    """Return the keys of a model and of the models in it."""
    keys: dict[str, Key] = {}
    sections: set[str] = set()
    optional: set[str] = set()
    for name, field in model.model_fields.items():
        path = prefix + name
        if inner := _inner_model(field.annotation):
            below = table_of(inner, f"{path}.")
            keys |= below.keys
            sections |= {path} | below.sections
            optional |= below.optional
            if type(None) in _options(field.annotation):
                optional.add(path)
        else:
            keys[path] = _key(model, path, field)
    return Table(keys, frozenset(sections), frozenset(optional))


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds, also if it may be None."""
    options = [option for option in _options(annotation) if option is not type(None)]
    if len(options) == 1 and isinstance(options[0], type) and issubclass(options[0], BaseModel):
        return options[0]
    return None


def _key(model: type[BaseModel], path: str, field: FieldInfo) -> Key:
    """Return the key of a field, with its bounds and with the model's own validators for it."""
    required = field.is_required()
    default = None if required else field.get_default(call_default_factory=True, validated_data={})
    metadata = [*field.metadata, *_validators(model, path.rpartition(".")[2])]
    annotation = Annotated[field.annotation, *metadata] if metadata else field.annotation
    return Key(path, annotation, default, required)


def _validators(model: type[BaseModel], name: str) -> Iterator[Any]:
    """Yield a model's `field_validator` functions for a field, which its annotation does not have."""
    for decorator in model.__pydantic_decorators__.field_validators.values():
        if name in decorator.info.fields or "*" in decorator.info.fields:
            yield _VALIDATORS[decorator.info.mode](decorator.func)
