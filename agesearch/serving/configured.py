"""[ray] The service as an application of Ray Serve's own configuration (a RayService of KubeRay names it by
``agesearch.serving.configured:application``).

Serve's proxy, and not HAProxy, hands the requests on: what stands before the cluster is Kubernetes' own. The
token is ``AGESEARCH_TOKEN`` of the replicas' environment; without one a replica does not start.
"""

from __future__ import annotations

import os
from typing import Any

from agesearch.errors import InputError
from agesearch.specs import Spec, parse_spec


class ServedModel(Spec):
    """What is served, from which registry (a folder or URI), with how many threads a replica."""

    model: str
    registry: str
    threads: int = 1


def application(arguments: dict[str, Any]) -> Any:
    """The Serve application of ``arguments``, those of a ``ServedModel``; else an ``InputError``."""
    from ray import serve

    spec = parse_spec(ServedModel, arguments, "the arguments of the application")
    deployment: Any = serve.deployment(name="faces")(serve.ingress()(_Replica))
    return deployment.bind(spec.model_dump())


class _Replica:
    """One process: a checked version, and the HTTP application around it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._app = web_application(ServedModel(**spec))

    def __serve_build_asgi_app__(self) -> Any:  # noqa: N807 - the name is Serve's
        return self._app


def web_application(spec: ServedModel) -> Any:
    """The HTTP application of a version, checked; an ``InputError`` where there is none, or no token."""
    from agesearch.data.images.memory import give_back_large_pieces
    from agesearch.deploy.registry import resolve, verify
    from agesearch.serving.auth import TOKEN_VARIABLE, TokenCheck, given_token
    from agesearch.serving.faces import open_service
    from agesearch.serving.images import ImageLimits
    from agesearch.serving.web.routes import create_app

    token = given_token(None, os.environ)
    if token is None:
        raise InputError(f"The replica has no token: set {TOKEN_VARIABLE} (a Secret) in its environment.")
    folder = resolve(spec.registry, spec.model)
    verify(folder)
    give_back_large_pieces()
    limits = ImageLimits()
    return create_app(open_service(folder, spec.threads, limits), TokenCheck(token.value), limits)
