"""Checks of stored episodes: of runs that train networks, and of runs that look results up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from rlnas.cli.tally import Tally
from rlnas.envs import BuildProblem, NetworkProblem, TableProblem
from rlnas.envs.decision_episodes import BuildEpisode, EditEpisode
from rlnas.envs.protocols import Episode
from rlnas.envs.replaying import replayed
from rlnas.errors import RlnasError, RunError
from rlnas.evaluation import Candidate, Record, StartLibrary, Store
from rlnas.evaluation.validation import (
    EXACT,
    check_lineage,
    compare,
    evaluate_again,
    recipe_for,
    services_by_recipe,
    tolerance,
)
from rlnas.graph import Graph, Site
from rlnas.latency import is_deterministic

ACTIONS, GRAPH, FUNCTION, METRICS = "actions replay", "graph equal", "function preserved", "metrics equal"
COSTS: Final = ("n_params", "macs", "peak_memory_bytes")

Logged = Mapping[str, Any]


def name_of(logged: Logged) -> str:
    """How an episode is called in what is printed."""
    return f"{logged['search']} {logged['evaluation']}"


class NetworkChecks:
    """Checks of a run that trains networks.

    Args:
        problem: As the run's, with an empty store of its own.
        starts: The run's start networks.
        store: The run's evaluations.
        first_start_id: The start network that the run began with.

    Raises:
        RunError: If there is no start network.
        StoreError: If a start network or the store cannot be read.
    """

    def __init__(self, problem: NetworkProblem, *, starts: StartLibrary, store: Store, first_start_id: str) -> None:
        self._problem, self._store = problem, store
        for start_id in starts.ids():
            problem.service.starts.add(starts.get(start_id))
        if first_start_id not in problem.service.starts.ids():
            raise RunError(f"the start network {first_start_id} of the run is missing")
        problem.first_start_id = first_start_id  # instead of training it once more

    def check(self, logged: Sequence[Logged], *, sample: int | None, rng: np.random.Generator) -> dict[str, Tally]:
        """Check episodes.

        Args:
            sample: How many networks are evaluated again; None for all.
        """
        tallies = {ACTIONS: Tally("episodes"), GRAPH: Tally("episodes"), FUNCTION: Tally("edits")}
        tallies[METRICS] = Tally("evaluations")
        for one in logged:
            episode = self._replay(one, tallies[ACTIONS])
            if episode is not None:
                tallies[GRAPH].add(name_of(one), self._graph(one, getattr(episode, "graph", None)))
            else:
                tallies[GRAPH].skip("their actions do not replay")
        self._function(logged, tallies[FUNCTION])
        self._metrics(logged, tallies[METRICS], sample=sample, rng=rng)
        return tallies

    def close(self) -> None:
        """Release worker processes and the stores."""
        self._problem.close()
        self._store.close()

    # ------------------------------------------------------------------------------------------------------ checks

    def _replay(self, logged: Logged, tally: Tally) -> Episode | None:
        try:
            self._problem.start_from(logged["start_id"])
            episode = replayed(self._problem, logged["actions"])
        except RlnasError as error:
            tally.add(name_of(logged), str(error))
            return None
        found = self._problem.made(episode)
        why = None
        if not episode.ended:
            why = f"its {len(episode.actions)} actions do not end it"
        elif any(found[name] != logged[name] for name in found):
            said, gives = (", ".join(one["operators"]) or "no edits" for one in (logged, found))
            why = f"the actions give {gives}, stored {said}"
        return episode if tally.add(name_of(logged), why) else None

    def _graph(self, logged: Logged, graph: Graph | None) -> str | None:
        if graph is None:
            return None if not logged["graph_key"] else f"nothing is made, stored {logged['graph_key']}"
        if graph.key != logged["graph_key"]:
            return f"its key is {graph.key}, stored {logged['graph_key']}"
        record = self._record(logged)
        if record is not None and Graph.from_json(json.loads(record.graph)).key != graph.key:
            return f"the store holds another graph under {record.cache_key}"
        wrong = [c for c in COSTS if getattr(graph, c) != logged[c]]
        return f"{wrong[0]} is {getattr(graph, wrong[0]):,}, stored {logged[wrong[0]]:,}" if wrong else None

    def _function(self, logged: Sequence[Logged], tally: Tally) -> None:
        if isinstance(self._problem, BuildProblem):
            tally.skip("every network has weights of its own", len(logged))
            return
        seen: set[str] = set()
        for one in logged:
            lineage = f"{one['start_id']} {one['edits']}"
            if lineage in seen:
                continue
            seen.add(lineage)
            try:
                start = self._problem.service.starts.get(one["start_id"])
                candidate = Candidate(start.graph, one["start_id"], tuple(map(Site.from_json, one["edits"])))
                steps = check_lineage(candidate, start, self._problem.service.task)
            except RlnasError as error:
                tally.add(name_of(one), str(error))
                continue
            for step in steps:
                if step.change is None:
                    tally.skip("their operators need not keep it")
                    continue
                far = f"{step.site} changes the outputs by {step.change:.1e} of the largest, more than {EXACT:g}"
                tally.add(name_of(one), None if step.ok else far)

    def _metrics(self, logged: Sequence[Logged], tally: Tally, *, sample: int | None, rng: np.random.Generator) -> None:
        """Every evaluation is compared with the store's row of it; and those that are drawn, with a new one."""
        evaluated: dict[str, tuple[str, Record]] = {}
        for one in logged:
            if not one["cache_key"] or one["cache_key"] in evaluated:
                continue
            record = self._record(one)
            why = "the store does not hold it" if record is None else self._as_stored(one, record)
            if why is not None or record is None:
                tally.add(name_of(one), why)
            elif record.status != "ok":
                tally.skip("they failed then")
            else:
                evaluated[one["cache_key"]] = (name_of(one), record)
        keys = sorted(evaluated)
        if sample is not None and sample < len(keys):
            drawn = rng.choice(len(keys), sample, replace=False)
            tally.skip("left out by --sample", len(keys) - sample)
            keys = [keys[i] for i in sorted(drawn.tolist())]
        by_recipe = services_by_recipe(self._problem.service)
        for recipe in dict.fromkeys(evaluated[key][1].recipe for key in keys):
            these = [evaluated[key] for key in keys if evaluated[key][1].recipe == recipe]
            service = next((s for s in by_recipe.values() if recipe_for(s, these[0][1].candidate) == recipe), None)
            far = None if service is None else tolerance(service.evaluator)
            if service is None or far is None:
                tally.skip(
                    "the settings give no evaluator of their recipe"
                    if service is None
                    else "their evaluator neither is deterministic nor says its noise",
                    len(these),
                )
                continue
            same = [
                (name, record)
                for name, record in these
                if service.cache_key(record.candidate, seed=record.seed) == record.cache_key
            ]
            for name, _ in [entry for entry in these if entry not in same]:
                tally.add(name, "it has another name now: the data or their split are not those of the run")
            found = evaluate_again(service, [record for _, record in same])
            for (name, record), again in zip(same, found, strict=True):
                tally.add(name, compare(record, again, tolerance=far))

    def _as_stored(self, logged: Logged, record: Record) -> str | None:
        """How an episode's record differs from the store's row."""
        for name in ("accuracy", "graph_key", "seed", *COSTS):
            if logged[name] != getattr(record, name):
                return f"{name} is {logged[name]} in the log, {getattr(record, name)} in the store"
        meter = self._problem.service.meter
        if meter is None or not is_deterministic(meter) or logged["latency_ms"] is None:
            return None
        known = meter.graph_ms(record.candidate.graph)
        return None if known == logged["latency_ms"] else f"latency_ms is {known}, stored {logged['latency_ms']}"

    def _record(self, logged: Logged) -> Record | None:
        return self._store.get(logged["cache_key"]) if logged["cache_key"] else None


class TableChecks:
    """Checks of a run whose results are looked up: there is no function to be kept.

    Args:
        problem: The run's table.
    """

    def __init__(self, problem: TableProblem) -> None:
        self._problem = problem

    def check(self, logged: Sequence[Logged], *, sample: int | None, rng: np.random.Generator) -> dict[str, Tally]:
        """Check episodes; looking up costs nothing, but ``sample`` is kept to all the same."""
        tallies = {name: Tally("episodes") for name in (ACTIONS, GRAPH, FUNCTION, METRICS)}
        chosen = set(range(len(logged)))
        if sample is not None and sample < len(logged):
            chosen = set(rng.choice(len(logged), sample, replace=False).tolist())
        for number, one in enumerate(logged):
            tallies[FUNCTION].skip("nothing has weights")
            try:
                episode = replayed(self._problem, one["actions"])
            except RlnasError as error:
                tallies[ACTIONS].add(name_of(one), str(error))
                for name in (GRAPH, METRICS):
                    tallies[name].skip("their actions do not replay")
                continue
            assert isinstance(episode, BuildEpisode | EditEpisode)
            why = None if episode.ended else f"its {len(episode.actions)} actions do not end it"
            tallies[ACTIONS].add(name_of(one), why)
            record = self._problem.score([episode], seed=one["seed"])[0].info["evaluation"]
            same = record["choices"] == one["choices"] and record["graph_key"] == one["graph_key"]
            tallies[GRAPH].add(
                name_of(one), None if same else f"it is {record['graph_key']}, stored {one['graph_key']}"
            )
            if number not in chosen:
                tallies[METRICS].skip("left out by --sample")
                continue
            fixed = [k for k in record if k not in ("choices", "graph_key", "cached", "operators", "edits")]
            wrong = [k for k in fixed if record[k] != one.get(k)]
            far = f"{wrong[0]} is {record[wrong[0]]}, stored {one.get(wrong[0])}" if wrong else None
            tallies[METRICS].add(name_of(one), far)
        return tallies

    def close(self) -> None:
        """Nothing is open."""
