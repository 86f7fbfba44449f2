import pytest

from anygrain.phrases import points_at_one


@pytest.mark.parametrize(
    "text",
    [
        "the dog on the left",
        "The left dog",
        "leftmost window",
        "second sheep from the left",
        "the second left door",
        "the big red bus",
        "person riding a horse",
        "a man who is holding a camera",
        "the glass behind the bottles",
        "the dining table near the window",
        "the parking meter at the right",
        "the building to the left of the two cars",
    ],
)
def test_a_singular_noun_with_a_word_that_tells_it_from_others(text):
    assert points_at_one(text)


@pytest.mark.parametrize(
    "text",
    [
        "dog",
        "the dog",
        "the traffic light",
        "all dogs on the left",
        "every red car",
        "the dogs on the left",
        "the two people on the right",
        "people at the top",
        "3 cars on the left",
        "the road and the car on the left",
        "the sky above the building",
        "the hair of the woman",
        "the wheels of the car",
        "the glasses on the table",
        "the most salient object",
        "the object that stands out",
        "the building",
        "everything except the dog on the left",
        "",
        "?!",
    ],
)
def test_names_alone_and_several_things_are_not_one(text):
    assert not points_at_one(text)
