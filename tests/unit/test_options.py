"""Options become configs, or messages that say what is wrong."""

from dataclasses import dataclass, field

import pytest

from erray.errors import UserError
from erray.options import parse_options


@dataclass(frozen=True)
class Config:
    size: int
    rate: float = 0.5
    levels: tuple[int, ...] = (1, 2)
    counts: dict[str, int] | None = None
    cache: list[int] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"size must be positive, found {self.size}")


def test_plain_data_becomes_the_config():
    options = {"size": 3, "rate": 1, "levels": [4, 5], "counts": {"a": 1}}
    config = parse_options(Config, options, owner="thing")
    assert config == Config(size=3, rate=1.0, levels=(4, 5), counts={"a": 1})
    assert isinstance(config.levels, tuple)


def test_given_fields_are_no_options():
    assert parse_options(Config, {}, owner="thing", given={"size": 2}) == Config(size=2)
    with pytest.raises(UserError, match="thing has no option 'size'; valid options: rate, levels"):
        parse_options(Config, {"size": 3}, owner="thing", given={"size": 2})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"^thing: size is missing$"),
        ({"size": 0}, r"^thing: size must be positive, found 0$"),
        ({"size": "3"}, r"^thing: size: .*, found '3'$"),
        ({"size": True}, r"^thing: size: .*, found True$"),
        ({"size": 3, "levels": [1, "2"]}, r"^thing: levels.1: .*, found '2'$"),
        ({"size": 3, "sise": 3, "cache": []}, r"^thing has no option 'cache', 'sise'; valid .*"),
        ({"size": object()}, r"^thing: options must be plain"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message) as caught:
        parse_options(Config, options, owner="thing")
    assert "\n" not in str(caught.value)
