"""The part of the films' names that is the group, on the names of real corpora and made-up ones."""

import random
from itertools import product
from pathlib import PurePosixPath

import pytest

from erray.corpora.label_folders import SPLIT_FOLDERS
from erray.corpora.name_groups import guess_group

CLASSES = ("Anger", "Fear", "Sadness")


def ravdess():
    """Modality, channel, emotion, strength, sentence, repetition, actor."""
    codes = dict(zip(CLASSES, ("05", "06", "04"), strict=True))
    for name, strength, sentence, again in product(CLASSES, *[("01", "02")] * 3):
        for actor in range(1, 25):
            yield f"{name}/01-01-{codes[name]}-{strength}-{sentence}-{again}-{actor:02}.mp4"


def cremad():
    codes = dict(zip(CLASSES, ("ANG", "FEA", "SAD"), strict=True))
    for name, actor, said in product(CLASSES, range(1001, 1020), ("IEO", "TIE", "IOM", "DFA")):
        yield f"{name}/{actor}_{said}_{codes[name]}_XX.mp4"


def people(form, names=("anna", "ben", "cleo")):
    """Films of every person are numbered, their classes in turn."""
    for name, i in product(names, range(9)):
        yield f"{CLASSES[i % 3]}/{form.format(name, i)}.mp4"


NAMES = {
    "ravdess": (ravdess(), lambda stem: stem.split("-")[-1]),
    "cremad": (cremad(), lambda stem: stem.split("_")[0]),
    "word": (people("{}_{}"), lambda stem: stem.split("_")[0]),
    "two people": (people("{}-{}", ("anna", "ben")), lambda stem: stem.split("-")[0]),
    "accents": (people("{} {}", ("Jos\u00e9", "\u5f20", "O")), lambda stem: stem.split()[0]),
    "other lengths": (people("{}.{}.mp4.x", ("a", "b")), lambda stem: stem[0]),
    "no separator": (people("{}{}"), lambda stem: stem[:-1]),
    "after a constant": (people("clip_{}_{}"), lambda stem: stem.split("_")[1]),
    "runs": (people("p{:02}f{}", (1, 2, 3)), lambda stem: stem[1:3]),
    "dialogues": (people("dia{}_utt{}", range(4)), lambda stem: stem.split("_")[0]),
    "one film of each class": (
        [f"{name}/{who}.mp4" for name in CLASSES for who in ("anna", "ben")],
        lambda stem: stem,
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_the_person_is_found(name):
    films, person = NAMES[name]
    class_of = {film: film.partition("/")[0] for film in films}
    pattern = guess_group(class_of)
    assert pattern is not None and pattern.groups == 1
    for film in class_of:
        found = pattern.search(str(PurePosixPath(film).with_suffix("")))
        assert found is not None and found[1] == person(PurePosixPath(film).stem)
    shuffled = random.Random(0).sample(sorted(class_of.items()), len(class_of))
    assert guess_group(dict(shuffled)) == pattern


@pytest.mark.parametrize(
    "stems",
    [
        {name: [f"{i}" for i in range(20)] for name in CLASSES},
        {name: [f"film_{i:03}" for i in range(20)] for name in CLASSES},
        {name: [f"{name[:3]}{i}" for i in range(20)] for name in CLASSES},
        {name: [f"{name}-{i}-hd" for i in range(20)] for name in CLASSES},
        {"Anger": [f"a{i}" for i in range(5)], "Fear": [f"b_{i}_c" for i in range(5)]},
        {"Anger": ["..", "--"]},
        {},
    ],
    ids=["numbers", "numbered", "class", "class and more", "mixed", "no parts", "none"],
)
def test_numbers_and_other_names_of_a_class_are_no_group(stems):
    class_of = {f"{name}/{stem}.mp4": name for name, found in stems.items() for stem in found}
    assert guess_group(class_of) is None


def test_films_that_are_numbered_anew_in_every_split_are_no_group():
    names = [f"{split}/{name}/{i}.mp4" for split in "ab" for name in CLASSES for i in range(9)]
    assert guess_group({name: name.split("/")[1] for name in names}) is None


@pytest.mark.parametrize("form", ["{}_{}", "{}{}", "film-{}-{}"])
def test_the_name_of_a_split_is_no_group(form):
    """The films of the demo are called so, and those of many a corpus."""
    names = [
        f"{name}/{form.format(split, f'{i}{k}')}.mp4"
        for split in ("train", "Dev", "test")
        for i, name in enumerate(CLASSES)
        for k in range(9)
    ]
    class_of = {name: name.partition("/")[0] for name in names}
    assert guess_group(class_of, other_words=SPLIT_FOLDERS) is None
    with_person = {
        f"{name.removesuffix('.mp4')}_{'anna' if name[-5] < '5' else 'ben'}.mp4": found
        for name, found in class_of.items()
    }
    pattern = guess_group(with_person, other_words=SPLIT_FOLDERS)
    assert pattern is not None
    assert {pattern.search(name.removesuffix(".mp4"))[1] for name in with_person} == {"anna", "ben"}
