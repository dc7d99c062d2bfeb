"""What a node remembers of its shares for the next hello."""

from pathlib import Path

import pytest
from evenflow.control.v1 import resources_pb2

from services.shared.channels import Peer
from services.shared.membership import Membership


async def test_a_share_that_cannot_be_told_is_not_in_the_next_hello(run_dir: Path) -> None:
    """It raises where it was reported, and the node can join all the same."""
    peer = Peer.dial(f"unix:{run_dir}/control.sock", "t" * 32)
    role = resources_pb2.NODE_ROLE_RUNTIME
    membership = Membership(peer, node_id="runtime-0", role=role, incarnation="i1", address="")
    membership.report_share("account", 5)
    with pytest.raises(ValueError, match="-1"):
        membership.report_share("provisioned/default/f/1", -1)
    shares = membership._say_hello().hello.shares_held
    assert [(share.limit_key, share.held) for share in shares] == [("account", 5)]
    await membership.stop()
    await peer.channel.close()
