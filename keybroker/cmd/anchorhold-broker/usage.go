package main

const usage = `usage: anchorhold-broker run --config FILE     serve
       anchorhold-broker check --config FILE   open and check everything, serve nothing
       anchorhold-broker begin-log --config FILE   put an audit log of version 1 away, begin another
       anchorhold-broker reload                have the running broker read certificate, epochs, policies and
                                               revocation lists again, and wait for its verdict
       anchorhold-broker version
Without --config it is /etc/anchorhold/broker.yaml. A state directory is made by: anchorhold keygen broker
Exit status: 0 done, 1 failed, 2 wrong command line.
`
