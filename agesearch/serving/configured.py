"""[ray] The service as an application of Ray Serve's own configuration (a RayService of KubeRay names it by
``agesearch.serving.configured:application``).

Serve's proxy, and not HAProxy, hands the requests on: what stands before the cluster is Kubernetes' own. The
token is ``AGESEARCH_TOKEN`` of the replicas' environment; without one a replica does not start. Each replica
follows the model's alias by itself, so that one which is added later answers with the version that the others
have come to, and a file of API keys, as it changes.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from agesearch.errors import AgeSearchError, InputError, first_line
from agesearch.specs import Spec, parse_spec

_LOG = logging.getLogger("ray.serve")
#: Seconds between two looks at an alias, and for which a version that was replaced answers what it has.
_LOOK_S, _LAST_ANSWERS_S = 5.0, 60.0


class ServedModel(Spec):
    """What is served, from which registry (a folder or URI), with how many threads a replica; ``keys``: the
    file of API keys, which need not be there yet.
    """

    model: str
    registry: str
    threads: int = 1
    keys: str | None = None


def application(arguments: dict[str, Any]) -> Any:
    """The Serve application of ``arguments``, those of a ``ServedModel``; else an ``InputError``."""
    from ray import serve

    spec = parse_spec(ServedModel, arguments, "the arguments of the application")
    deployment: Any = serve.deployment(name="faces")(serve.ingress()(_Replica))
    return deployment.bind(spec.model_dump())


class _Replica:
    """One process: a checked version, and the HTTP application around it."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._app = FollowingApp(ServedModel(**spec))
        threading.Thread(target=self._follow, name="alias", daemon=True).start()

    def __serve_build_asgi_app__(self) -> Any:  # noqa: N807 - the name is Serve's
        return self._app

    def _follow(self) -> None:
        look = threading.Event()
        while not look.wait(_LOOK_S):
            try:
                self._app.follow()
            except Exception as error:  # whatever a look meets, the version that answers goes on
                _LOG.warning("%s", first_line(error))


class FollowingApp:
    """The HTTP application of the version that an alias points to; an ``InputError`` where there is none, or
    no token.
    """

    def __init__(self, spec: ServedModel) -> None:
        from agesearch.data.images.memory import give_back_large_pieces
        from agesearch.serving.access.check import Access
        from agesearch.serving.access.keys import checked_file
        from agesearch.serving.auth import TOKEN_VARIABLE, TokenCheck, given_token
        from agesearch.serving.rollout.models import served_models

        token = given_token(None, os.environ)
        if token is None:
            raise InputError(f"The replica has no token: set {TOKEN_VARIABLE} (a Secret) in its environment.")
        give_back_large_pieces()
        keys = checked_file(spec.keys) if spec.keys else None
        counts = Path(tempfile.mkdtemp(prefix="agesearch-"))  # what keys have asked, of this replica
        self._access = Access(TokenCheck(token.value), keys, counts)
        self._threads = spec.threads
        (self._model,) = served_models([spec.model], spec.registry)
        self._refused: str | None = None
        self._app = self._opened(self._model.version)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """A request is answered by the version that it came to."""
        await self._app(scope, receive, send)

    @property
    def version(self) -> str:
        """The number of the version that answers."""
        return self._model.version

    def follow(self) -> None:
        """Take the version that the alias points to, where that is another one. One that is damaged or does
        not start changes nothing, and is not tried again.
        """
        model = self._model
        if model.registry is None or model.alias is None:
            return
        wanted = model.registry.alias(model.name, model.alias).version
        if wanted in (None, model.version, self._refused):
            return
        assert wanted is not None
        try:
            app = self._opened(wanted)
        except AgeSearchError as error:
            self._refused = wanted
            _LOG.error("Version %s is not taken, %s goes on: %s", wanted, model.version, first_line(error))
            return
        before, self._app = self._app, app
        self._model, self._refused = replace(model, version=wanted), None
        threading.Timer(_LAST_ANSWERS_S, before.state.batches.close).start()
        _LOG.warning("Version %s answers in place of %s.", wanted, model.version)

    def _opened(self, number: str) -> Any:
        from agesearch.serving.faces import open_service
        from agesearch.serving.images import ImageLimits
        from agesearch.serving.web.routes import create_app

        limits = ImageLimits()
        version = self._model.checked(number)
        return create_app(open_service(version.folder, self._threads, limits), self._access, limits)
