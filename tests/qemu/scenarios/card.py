"""The network card and its cable."""

from host import Host
from machines import NO_LEAKS, Machine

CARD = ("-netdev", "user,id=net", "-device", "e1000,id=nic,netdev=net")
ALONE = ("-device", "e1000,id=nic")  # no netdev: nobody is there to talk to

ROWS = (
    Machine("f20-cable-pulled", devices=CARD, host=Host, patterns=(NO_LEAKS,),
            options="mode=test filter=F20:"),
    Machine("f20-cable-pulled-bounce-verifier", machine="pc", cpu="qemu64", devices=CARD, host=Host,
            patterns=(NO_LEAKS,), options="mode=test filter=F20: dma=bounce verifier=1"),
    Machine("f21-self-test-alone", devices=ALONE, patterns=(NO_LEAKS,),
            options="mode=test filter=F21 loopback"),
    Machine("f21-self-test-alone-verifier", machine="pc", devices=ALONE, patterns=(NO_LEAKS,),
            options="mode=test filter=F21 loopback verifier=1"),
)
