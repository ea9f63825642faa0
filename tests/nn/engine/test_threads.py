import os
import threading

import pytest
import torch

from seqssvae.nn.engine.threads import MOST_WORKERS, num_workers, share_out


def test_each_part_is_worked_on_once_and_the_largest_share_is_small() -> None:
    sizes = [9, 1, 8, 2, 7, 3, 6, 4]
    shares = share_out(list, range(8), sizes, 3)
    assert sorted(part for share in shares for part in share) == list(range(8))
    loads = [sum(sizes[part] for part in share) for share in shares]
    assert len(shares) == 3 and max(loads) - min(loads) <= 3
    assert all(share == sorted(share) for share in shares)
    assert share_out(list, range(8), sizes, 3) == shares


def test_no_more_shares_than_parts_and_at_least_one() -> None:
    assert share_out(list, [7], [1], 4) == [[7]]
    assert share_out(list, [], [], 4) == [[]]


def test_a_worker_is_another_thread_that_records_nothing() -> None:
    weight, both = torch.ones(3, requires_grad=True), threading.Barrier(2)

    def work(parts: list[int]) -> tuple[int, bool]:
        if len(parts) == 1:
            both.wait(30)  # neither does the other's share
        return threading.get_ident(), (weight * len(parts)).requires_grad

    (first, recorded), (second, also) = share_out(work, [0, 1], [1, 1], 2)
    assert len({first, second, threading.get_ident()}) == 3 and not recorded and not also
    ((here, recorded),) = share_out(work, [0, 1], [1, 1], 1)  # both parts in one share
    assert here == threading.get_ident() and recorded


def test_workers_share_torchs_threads_out_and_leave_ours_alone() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        inside = share_out(lambda parts: torch.get_num_threads(), [0, 1], [1, 1], 2)
        assert inside == [2, 2] and torch.get_num_threads() == 4
        assert num_workers(torch.device("cpu")) == 4 and num_workers(torch.device("meta")) == 1
        torch.set_num_threads(3 * MOST_WORKERS)
        assert num_workers(torch.device("cpu")) == MOST_WORKERS
    finally:
        torch.set_num_threads(before)


def test_an_error_reaches_the_caller() -> None:
    def work(parts: list[int]) -> None:
        if 1 in parts:
            raise ValueError("part 1")

    with pytest.raises(ValueError, match="part 1"):
        share_out(work, [0, 1], [1, 1], 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_forked_child_has_threads_of_its_own() -> None:
    share_out(list, [0, 1], [1, 1], 2)
    child = os.fork()
    if not child:
        os._exit(0 if share_out(list, [0, 1], [1, 1], 2) == [[0], [1]] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
