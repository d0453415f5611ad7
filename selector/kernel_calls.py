"""What Python calls: each kernel here opens the sampler's book and hands the arrays on."""

from typing import Any

from numba import njit

from selector.address_book import open_pivots, open_pool, open_selected, open_tables
from selector.eviction import evict_lowest, take_out_all
from selector.greedy import add_few, select_points
from selector.inspection import exact_importances, look_up, nearest_of_all
from selector.k_lists import make_every_list


@njit(cache=True, error_model="numpy")
def call_add(book: Any, codes: Any, vectors: Any, rows: Any, lists_follow: bool) -> Any:
    """`add_few`."""
    table, departed = open_tables(book)
    return add_few(
        open_pool(book), open_selected(book), open_pivots(book), table, departed, codes, vectors,
        rows, lists_follow,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def call_select(
    book: Any, wanted: int, warm_up: int, seed: int, frozen: bool, separation: float, done: Any,
    importances: Any, vectors: Any, codes: Any, rejected: Any,
) -> Any:  # fmt: skip
    """`select_points`."""
    table, departed = open_tables(book)
    return select_points(
        open_pool(book), open_selected(book), open_pivots(book), table, departed, wanted, warm_up,
        seed, frozen, separation, done, importances, vectors, codes, rejected,
    )  # fmt: skip


@njit(cache=True, error_model="numpy")
def call_evict(
    book: Any, number: int, warm_up: int, seed: int, importances: Any, codes: Any
) -> None:
    """`evict_lowest`."""
    table, departed = open_tables(book)
    pool, selected = open_pool(book), open_selected(book)
    evict_lowest(pool, selected, table, departed, number, warm_up, seed, importances, codes)


@njit(cache=True, error_model="numpy")
def call_take_out(book: Any, rows: Any, evicted: bool) -> None:
    """`take_out_all`."""
    table, departed = open_tables(book)
    take_out_all(open_pool(book), open_selected(book), table, departed, rows, evicted)


@njit(cache=True, error_model="numpy")
def call_make_lists(book: Any) -> None:
    """`make_every_list`."""
    make_every_list(open_pool(book), open_selected(book))


@njit(cache=True, error_model="numpy")
def call_importances(book: Any, rows: Any, importances: Any) -> None:
    """`exact_importances`."""
    exact_importances(open_pool(book), open_selected(book), rows, importances)


@njit(cache=True, error_model="numpy")
def call_nearest(book: Any, rows: Any, distances: Any, indices: Any) -> None:
    """`nearest_of_all`."""
    nearest_of_all(open_pool(book), open_selected(book), rows, distances, indices)


@njit(cache=True, error_model="numpy")
def call_look_up(book: Any, codes: Any, entries: Any) -> None:
    """`look_up`."""
    table, _ = open_tables(book)
    look_up(open_pool(book), open_selected(book), table, codes, entries)
