"""Starts Synapse with names that only its network of tests knows: `peers.json` beside this file has their addresses."""

import json
import socket
import sys
from pathlib import Path

from twisted.internet import defer
from twisted.names.error import DNSNameError

from synapse.http.federation import srv_resolver

peers = {
    name: address.rsplit(":", 1)[0]
    for name, address in json.loads((Path(__file__).parent / "peers.json").read_text()).items()
}
system_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host, *arguments, **more):
    if isinstance(host, bytes):
        host = host.decode()
    return system_getaddrinfo(peers.get(host, host), *arguments, **more)


def no_service_record(*_arguments, **_more):
    return defer.fail(DNSNameError())


socket.getaddrinfo = getaddrinfo
srv_resolver.client.lookupService = no_service_record

from synapse.app.homeserver import main  # noqa: E402  (after the names are in place)

sys.argv[0] = "synapse"
main()
