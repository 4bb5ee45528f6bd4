"""Which trial goes into which pack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from ckconv_sweep.execution.packing import Packing


def drawing(shapes: list[str]) -> Callable[[], tuple[int, str] | None]:
    """Trials 0, 1, ... of these shapes, then none."""
    numbered: Iterator[tuple[int, str]] = iter(enumerate(shapes))
    return lambda: next(numbered, None)


def test_trials_of_one_shape_start_in_the_order_in_which_they_are_drawn() -> None:
    packing = Packing[str](["a"], places=4)
    draw = drawing(["x"] * 3)
    assert [packing.next(draw) for _ in range(4)] == [(0, "a"), (1, "a"), (2, "a"), None]


def test_nothing_is_drawn_where_no_place_is_free() -> None:
    packing = Packing[str](["a"], places=1)
    drawn: list[int] = []

    def draw() -> tuple[int, str]:
        drawn.append(len(drawn))
        return drawn[-1], "x"

    assert packing.next(draw) == (0, "a")
    assert packing.next(draw) is None
    assert drawn == [0]
    packing.free(0)
    assert packing.next(draw) == (1, "a")


def test_a_trial_of_another_shape_waits_and_one_of_the_same_is_drawn_in_its_place() -> None:
    packing = Packing[str](["a"], places=3)
    draw = drawing(["x", "y", "x", "y", "x"])
    assert [packing.next(draw) for _ in range(4)] == [(0, "a"), (2, "a"), (4, "a"), None]
    assert [trial.number for trial in packing.waiting] == [1, 3]


def test_a_trial_goes_to_the_host_that_trains_its_shape() -> None:
    packing = Packing[str](["a", "b"], places=3)
    assert packing.next(drawing(["x"])) == (0, "a")
    draw = iter([(1, "y"), (2, "y"), (3, "x"), (4, "y")])
    assert packing.next(lambda: next(draw, None)) == (3, "a")
    started = [packing.next(lambda: next(draw, None)) for _ in range(4)]
    assert started == [(1, "b"), (2, "b"), (4, "b"), None]
    assert packing.empty_places == 1


def test_the_shape_of_most_that_wait_opens_the_next_pack() -> None:
    packing = Packing[str](["a"], places=3)
    draw = drawing(["x", "y", "y"])
    assert packing.next(draw) == (1, "a")
    assert packing.next(draw) == (2, "a")
    assert packing.next(draw) == (0, "a")


def test_a_trial_that_was_passed_over_often_starts_all_the_same() -> None:
    packing = Packing[str](["a"], places=2)
    draw = drawing(["x", "x", "y"] + ["x"] * 20)
    order: list[int] = []
    while (found := packing.next(draw)) is not None:
        order.append(found[0])
        if len(order) >= 2:
            packing.free(order[-2])
    assert sorted(order) == list(range(23))
    assert order.index(2) <= 5


@given(
    shapes=st.lists(st.sampled_from("xyz"), max_size=40),
    hosts=st.integers(1, 3),
    places=st.integers(1, 5),
    data=st.data(),
)
def test_every_trial_starts_once_and_no_host_is_ever_overfull(
    shapes: list[str], hosts: int, places: int, data: st.DataObject
) -> None:
    packing = Packing[str]([f"host-{i}" for i in range(hosts)], places)
    draw, started = drawing(shapes), list[int]()
    seated: dict[int, str] = {}
    while True:
        found = packing.next(draw)
        assert len(packing.waiting) <= places
        if found is not None:
            number, host = found
            started.append(number)
            seated[number] = host
            assert max(Counter(seated.values()).values()) <= places
            assert packing.empty_places == hosts * places - len(seated)
            if not data.draw(st.booleans()):
                continue
        if not seated:
            break
        leaving = data.draw(st.sampled_from(sorted(seated)))
        del seated[leaving]
        packing.free(leaving)
    assert sorted(started) == list(range(len(shapes)))
    assert packing.waiting == []
