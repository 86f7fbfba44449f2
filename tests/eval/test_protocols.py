"""Each protocol on tiny photos, asked of a model whose answers are known: exact figures."""

from dataclasses import replace

import numpy as np
import pytest
from known import Known, sample

from anygrain.data.held_out import UNSEEN_WORDS
from anygrain.data.referring import POINTING
from anygrain.eval.boundary import boundary_f
from anygrain.eval.metrics import Overlap
from anygrain.eval.photo import Photo, ask
from anygrain.eval.protocols import BestPerson, HumanPhrases, Named, VideoPhrases
from anygrain.eval.referring import Referring, expressions
from anygrain.eval.wording import Paraphrases, UnseenWords
from anygrain.types import Region
from small_photos import rect, region

LEFT, RIGHT = (10, 0, 30, 20), (10, 40, 30, 60)


def run(protocol, answers, *photos):
    """Answers by text (a mask or None); anything else asked is an error."""
    known = Known(lambda number, text: answers[number, text] if (number, text) in answers else answers[text])
    for photo in photos:
        ask(known, photo, [protocol])
    return known


def test_categories_are_asked_by_the_words_of_the_targets():
    one = Photo(sample(1, region(LEFT, category="cat")), "pets")
    two = Photo(sample(2, region(LEFT, category="cat"), region(RIGHT, category="dog")), "pets")
    ponies = Photo(sample(3, region(RIGHT, category="horse")), "horses")
    other = Photo(sample(4, region(LEFT, category="cat")), "coco")
    answers = {(1, "all cats"): rect(10, 0, 20, 20), (2, "all cats"): rect(*LEFT), "all dogs": None}
    answers["all horses"] = rect(10, 40, 30, 50)
    protocol = Named()
    known = run(protocol, answers, one, two, ponies, other)
    # cats: 200 + 400 of 800 pixels; dogs: nothing found
    assert protocol.figures() == {"pets.named_miou": (0.75 + 0) / 2, "horses.named_miou": 0.5}
    assert protocol.details() == {"all cats": 0.75, "all dogs": 0, "all horses": 0.5}
    assert known.embedded == [1, 2, 3]


def test_the_best_matching_person_counts():
    crowd = Photo(sample(1, region(LEFT, category="person"), region(RIGHT, category="person")), "coco_person")
    alone = Photo(sample(2, region(LEFT, category="person")), "coco_person")
    nobody = Photo(sample(3, region(LEFT, category="dog")), "coco_person")
    protocol = BestPerson()
    run(
        protocol,
        {(1, "the person"): rect(*LEFT) | rect(10, 40, 15, 60), (2, "the person"): rect(10, 0, 20, 20)},
        crowd,
        alone,
        nobody,
    )
    assert protocol.figures() == {"coco_person.best_iou": pytest.approx((400 / 500 + 0.5) / 2)}
    assert protocol.details() == {"photos": 2}


def test_video_phrases_are_means_over_frames_and_then_over_phrases():
    def frame(number, video, *captions):
        one = sample(number, region(LEFT, captions=captions))
        return Photo(replace(one, id=f"davis/{video}/{number:05d}"), "davis")

    half = rect(10, 0, 20, 20)
    answers = {(n, "the dog"): rect(*LEFT) for n in (1, 2, 3)} | {(4, "the dog"): None, "a dog": half}
    protocol = VideoPhrases()
    run(protocol, answers, *(frame(n, "a", "the dog") for n in (1, 2, 3)), frame(4, "b", "the dog", "a dog"))
    f = boundary_f(half, rect(*LEFT))
    figures = protocol.figures()
    assert 0 < f < 1
    assert figures["davis.j"] == pytest.approx((1 + 0 + 0.5) / 3)  # three perfect frames are one phrase
    assert figures["davis.f"] == pytest.approx((1 + 0 + f) / 3)
    assert figures["davis.j_and_f"] == pytest.approx((figures["davis.j"] + figures["davis.f"]) / 2)
    assert list(protocol.details()) == ["davis/a: the dog", "davis/b: a dog", "davis/b: the dog"]


def test_human_phrases_compare_boxes():
    boxed = Region(box=(0, 10, 20, 30), captions=("the box on the left",))
    drawn = region(RIGHT, captions=("the one on the right",))
    refexp = Photo(sample(1, boxed, drawn, Region(captions=("said of the whole photo",))), "refexp")
    hoi = Photo(sample(2, boxed, Region(box=(40, 10, 60, 30), captions=("the box on the left",))), "hoi")
    elsewhere = Photo(sample(3, boxed), "coco")
    corners = rect(10, 0, 11, 1) | rect(29, 19, 30, 20)  # two pixels whose box is the whole box
    protocol = HumanPhrases()
    answers = {(1, "the box on the left"): corners, (2, "the box on the left"): rect(10, 0, 30, 9)}
    known = run(protocol, answers | {"the one on the right": None}, refexp, hoi, elsewhere)
    assert protocol.figures() == {"human.over_half": 1 / 4}
    assert protocol.details() == {
        "hoi": {"over_half": 0, "box_iou": pytest.approx(0.45 / 2), "phrases": 2},
        "refexp": {"over_half": 0.5, "box_iou": 0.5, "phrases": 2},
    }
    assert known.asked.count((2, "the box on the left")) == 1


def test_paraphrases_divide_the_worst_by_the_mean():
    photo = Photo(
        sample(1, region(LEFT, category="dog", captions=("the most salient object",)), region(RIGHT, category="sky")),
        "pets",
    )
    whole, half = rect(*LEFT), rect(10, 0, 20, 20)
    answers = {"all dog": whole, "every dog": half, "dog": whole}
    answers |= dict.fromkeys(("all sky", "the sky", "sky"), rect(*RIGHT))
    answers |= {
        "the most salient object": whole,
        "the main object of the picture": whole,
        "what the photo is about": None,
    }
    protocol = Paraphrases()
    known = run(protocol, answers, photo, Photo(photo.sample, "pets", sampled=False))
    worst, mean = (0.5 + 1 + 0) / 3, (2.5 / 3 + 1 + 2 / 3) / 3
    assert protocol.figures() == {"paraphrases.worst_over_mean": pytest.approx(worst / mean)}
    assert protocol.details() == {"targets": 3, "pets": pytest.approx(worst / mean)}
    assert len(known.asked) == 9


def test_paraphrases_of_a_model_that_finds_nothing_have_no_figure():
    protocol = Paraphrases()
    run(protocol, dict.fromkeys(("all sky", "the sky", "sky")), Photo(sample(1, region(LEFT, category="sky")), "sky"))
    assert protocol.figures() == {}


def test_unseen_words_are_compared_with_the_names_they_stand_for():
    pairs = (("pets", "dog", "puppy"), ("pets", "dog", "hound"), ("camvid", "sign_symbol", "sign"))
    dogs = Photo(sample(1, region(LEFT, category="dog")), "pets")
    more = Photo(sample(2, region(RIGHT, category="dog")), "pets")
    streets = Photo(sample(3, region(LEFT, category="sign_symbol")), "camvid")
    answers = {"all dog": rect(*LEFT), (2, "all dog"): rect(*RIGHT), "all puppy": None, (2, "all puppy"): rect(*RIGHT)}
    answers |= {(1, "all hound"): rect(*LEFT), (2, "all hound"): rect(*RIGHT)}
    answers |= {"all sign symbol": rect(10, 0, 20, 20), "all sign": rect(10, 0, 15, 20)}
    protocol = UnseenWords(pairs)
    run(protocol, answers, dogs, more, streets)
    word, name = (0.5 + 1 + 0.25) / 3, (1 + 1 + 0.5) / 3
    assert protocol.figures() == {
        "unseen.word_over_name": pytest.approx(word / name),
        "unseen.word_iou": pytest.approx(word),
        "unseen.name_iou": pytest.approx(name),
    }
    assert protocol.details()["pets: puppy for dog"] == {"word": 0.5, "name": 1}
    assert protocol.details()["camvid: sign for sign symbol"] == {"word": 0.25, "name": 0.5}


def test_there_are_forty_pairs_of_unseen_words():
    assert len(set(UNSEEN_WORDS)) == len(UNSEEN_WORDS) == 40


def two_cars(number=1, source="coco"):
    cars = (region(box, category="car", instance=place) for place, box in enumerate((LEFT, RIGHT), start=1))
    return Photo(sample(number, *cars, exhaustive=("car",), source=source), source)


def test_referring_expressions_are_the_same_each_time_and_pick_some_of_several():
    said = expressions(two_cars())
    assert 3 <= len(said) <= 6
    assert [one.text for one in said] == [one.text for one in expressions(two_cars())]
    assert [one.text for one in said] != [one.text for one in expressions(two_cars(2))]
    assert {one.kind for one in said} <= set(POINTING)
    assert {one.mask.box for one in said} >= {(0, 10, 20, 30), (40, 10, 60, 30)}


def test_referring_counts_phrases_of_its_sources():
    photo = two_cars()
    said = expressions(photo)
    both = rect(*LEFT) | rect(*RIGHT)
    protocol = Referring()
    run(protocol, {one.text: both for one in said}, photo, two_cars(source="camvid"))
    figures, wanted = protocol.figures(), sum(one.mask.area for one in said)
    assert figures["referring.prompts"] == len(said)
    assert figures["referring.over_half"] == 1  # one of two cars is half of both
    assert figures["referring.overall_iou"] == wanted / (800 * len(said))
    assert protocol.details()["coco"]["prompts"] == len(said)
    assert sum(part["prompts"] for kind, part in protocol.details().items() if kind in POINTING) == len(said)


def test_nothing_that_is_only_boxed_is_asked_for():
    cars = two_cars().sample.regions
    known_by_box = [Region(box=box, category="cat") for box in ((20, 0, 40, 20), (20, 20, 40, 40))]
    boxed = Photo(sample(1, *cars, *known_by_box, exhaustive=("car", "cat")), "coco")
    texts = [one.text for one in expressions(boxed)]
    assert texts
    assert not any(text.split()[-1] in ("cat", "cats") or " cat " in text.split(" of ")[0] for text in texts)


def test_each_text_is_decoded_once_and_answers_everybody():
    class Listener:
        def __init__(self):
            self.seen = []

        def ask(self, photo):
            yield "all dog", lambda prediction: self.seen.append(photo.overlap(photo.category("dog"), prediction))
            yield "dog", lambda prediction: self.seen.append(bool(prediction.present[0]))

    listeners = Listener(), Listener()
    known = Known(lambda _, text: rect(*LEFT) if text == "all dog" else None)
    ask(known, Photo(sample(1, region(LEFT, category="dog")), "pets"), listeners)
    assert known.asked == [(1, "all dog"), (1, "dog")]
    assert known.embedded == [1]
    assert all(listener.seen == [Overlap(400, 400), False] for listener in listeners)


def test_a_photo_of_which_nothing_is_asked_is_not_encoded():
    known = Known(lambda *_: None)
    ask(known, Photo(sample(1), "coco"), [BestPerson(), VideoPhrases(), Named(), UnseenWords(), Paraphrases()])
    assert known.embedded == []


def test_protocols_without_photos_have_no_figures():
    for protocol in (BestPerson(), VideoPhrases(), Named(), UnseenWords(), Paraphrases(), HumanPhrases(), Referring()):
        assert protocol.figures() == {}
        assert np.size(protocol.details()) <= 1
