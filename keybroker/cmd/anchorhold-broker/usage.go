package main

const usage = `usage: anchorhold-broker run --config FILE     serve
       anchorhold-broker check --config FILE   open and check everything, serve nothing
       anchorhold-broker begin-log --config FILE   set an audit log of version 1 aside and begin a new one
       anchorhold-broker reload                make the running broker reread its certificate, epochs, policies
                                               and revocation lists, and wait for the verdict
       anchorhold-broker version
The default of --config is /etc/anchorhold/broker.yaml. To make a state directory: anchorhold keygen broker
Exit status: 0 done, 1 failed, 2 wrong command line or configuration.
`
