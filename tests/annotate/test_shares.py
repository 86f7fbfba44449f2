"""How shares of a Ray cluster are written; Ray itself is not needed for that."""

import pytest
from stub_steps import STEPS

from anygrain.annotate.ray_steps import Needs, Share, check_shares


def test_a_share_in_words():
    assert Share.parse("refer+rank:cpus=2,gpus=0.5,memory=4,actors=3") == Share(
        steps=("refer", "rank"), needs=Needs(cpus=2, gpus=0.5, memory=4 * 2**30), actors=3
    )
    assert Share.parse("find") == Share(steps=("find",))
    assert Needs(cpus=0, gpus=0.5).resources() == {"GPU": 0.5}


@pytest.mark.parametrize("text", ["", ":gpus=1", "a:gpus", "a:gpu=1", "a:gpus=-1", "a:gpus=1,gpus=2", "a+:cpus=1"])
def test_a_share_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="cannot read the share"):
        Share.parse(text)


@pytest.mark.parametrize(
    ("shares", "sentence"),
    [
        (["rank"], "there is no step 'rank' to share actors for; the steps are find, keep"),
        (["find", "keep+find"], "step 'find' stands in two shares"),
    ],
)
def test_shares_fit_the_route(shares, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_shares([Share.parse(text) for text in shares], STEPS)
    with pytest.raises(ValueError, match="one or more actors"):
        Share(steps=("find",), actors=0)
