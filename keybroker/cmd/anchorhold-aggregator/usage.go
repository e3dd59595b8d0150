package main

import "github.com/anchorhold/anchorhold/keybroker/aggregator/daemon"

const usage = `usage: anchorhold-aggregator run --config FILE     serve
       anchorhold-aggregator check --config FILE   open and check everything, serve nothing
       anchorhold-aggregator reload                have the running aggregator read its certificate again, and wait for its verdict
       anchorhold-aggregator version

A certificate of its own is made by: anchorhold keygen tls --out aggregator --host NAME
Rounds are handed to it by:          anchorhold fed round open
Uploads are added by:                anchorhold fed aggregate
Exit status: 0 done, 1 failed, 2 wrong command line.
A configuration, /etc/anchorhold/aggregator.yaml without --config:
` + daemon.Example
