"""Proposals: the regions that a two-stage network without a stage of its own for them looks at, one method a file.

| method | file | source |
|---|---|---|
| selective_search | selective_search.py | Uijlings et al. 2013; needs the extra ``proposals`` |
"""

from __future__ import annotations

from edgedet.errors import SpecError
from edgedet.model_spec import ProposalSpec
from edgedet.runtime.proposals.proposer import Proposer
from edgedet.runtime.proposals.region_warper import RegionWarper
from edgedet.runtime.proposals.selective_search import SelectiveSearch
from edgedet.schema import from_json

__all__ = ["METHODS", "Proposer", "RegionWarper", "SelectiveSearch", "proposer_from_spec"]

METHODS: dict[str, type[Proposer]] = {method.name: method for method in (SelectiveSearch,)}
"""Name in the ModelSpec -> class."""


def proposer_from_spec(spec: ProposalSpec) -> Proposer:
    """Build the method that a ModelSpec names.

    Raises:
        SpecError: if the name is unknown or a parameter is unknown or of the wrong type.
    """
    method = METHODS.get(spec.method)
    if method is None:
        raise SpecError(f"proposals by one of {', '.join(METHODS)}", repr(spec.method), "Correct proposals.method")
    return from_json(method, spec.parameters, f"proposals {spec.method}")
