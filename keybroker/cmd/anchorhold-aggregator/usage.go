package main

import "github.com/anchorhold/anchorhold/keybroker/aggregator/daemon"

const usage = `usage: anchorhold-aggregator run --config FILE     serve
       anchorhold-aggregator check --config FILE   open and check everything, serve nothing
       anchorhold-aggregator reload                make the running aggregator reread its certificate, and wait for the verdict
       anchorhold-aggregator version

To make its certificate:  anchorhold keygen tls --out aggregator --host NAME
To hand it rounds:        anchorhold fed round open
To add the uploads:       anchorhold fed aggregate
Exit status: 0 done, 1 failed, 2 wrong command line or configuration.
An example of a configuration (the default of --config is /etc/anchorhold/aggregator.yaml):
` + daemon.Example
