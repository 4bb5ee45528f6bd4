"""Which trial goes into which seat."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.execution.packing import Packing


def drawing(shapes: list[str]) -> Callable[[], tuple[int, str] | None]:
    """Trials 0, 1, ... of these shapes, then none."""
    numbered: Iterator[tuple[int, str]] = iter(enumerate(shapes))
    return lambda: next(numbered, None)


def numbers(packing: Packing[str], here: set[str], shapes: list[str], times: int) -> list[object]:
    """What a seat is given that asks so often, and trains what it was given."""
    draw, given = drawing(shapes), list[object]()
    for _ in range(times):
        found = packing.next(here, draw)
        given.append(found and found[0])
        here |= {found[1]} if found else set()
    return given


def test_trials_of_one_shape_start_in_the_order_in_which_they_are_drawn() -> None:
    assert numbers(Packing[str](4), set(), ["x"] * 3, 4) == [0, 1, 2, None]


def test_with_one_place_each_trial_goes_to_the_seat_that_asked_when_it_was_drawn() -> None:
    packing, draw = Packing[str](1), drawing(["x", "y", "x"])
    assert [packing.next(set(), draw) for _ in range(4)] == [(0, "x"), (1, "y"), (2, "x"), None]
    assert packing.waiting == []


def test_a_trial_of_another_shape_waits_and_one_of_the_same_is_drawn_in_its_place() -> None:
    packing = Packing[str](3)
    assert numbers(packing, set(), ["x", "y", "x", "y", "x"], 3) == [0, 2, 4]
    assert [trial.number for trial in packing.waiting] == [1, 3]


def test_a_seat_is_given_what_waits_of_the_shape_that_it_trains() -> None:
    packing, draw = Packing[str](3), drawing(["y", "x", "y", "y"])
    assert packing.next({"x"}, draw) == (1, "x")
    assert [packing.next({"y"}, draw) for _ in range(4)] == [(0, "y"), (2, "y"), (3, "y"), None]


def test_the_shape_of_most_that_wait_opens_the_next_pack() -> None:
    assert numbers(Packing[str](3), set(), ["x", "y", "y"], 3) == [1, 2, 0]


def test_a_trial_that_was_passed_over_often_starts_all_the_same() -> None:
    order = numbers(Packing[str](2), {"x"}, ["x", "x", "y"] + ["x"] * 20, 23)
    assert sorted(order) == list(range(23))  # type: ignore[type-var]
    assert order.index(2) <= 5


@given(
    shapes=st.lists(st.sampled_from("xyz"), max_size=40),
    seats=st.integers(1, 3),
    places=st.integers(1, 5),
    data=st.data(),
)
def test_every_trial_starts_once_and_no_more_wait_than_a_seat_has_places(
    shapes: list[str], seats: int, places: int, data: st.DataObject
) -> None:
    packing, draw, started = Packing[str](places), drawing(shapes), list[int]()
    trained: list[list[str]] = [[] for _ in range(seats)]
    while True:
        seat = data.draw(st.sampled_from(trained))
        if len(seat) == places:
            seat.remove(data.draw(st.sampled_from(seat)))
        found = packing.next(seat, draw)
        assert len(packing.waiting) <= places
        if found is None:
            break
        number, shape = found
        assert shape == shapes[number]
        started.append(number)
        seat.append(shape)
    assert sorted(started) == list(range(len(shapes)))
    assert packing.waiting == []
