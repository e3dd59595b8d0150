package main

const usage = `anchorhold-agent serves sealed models to local clients inside a confidential VM.

  anchorhold-agent run --config FILE     attest, serve, renew; SIGHUP reads FILE again
  anchorhold-agent check FILE            check a configuration and this machine against it, with its
                                         TEE or TPM; print the name of a TPM's key; change nothing
  anchorhold-agent check --root DIR      check /etc/anchorhold/agent.yaml, or another FILE behind DIR, and the files that
                                         it names as they lie below DIR: for images; asks nothing of this machine
  anchorhold-agent reload                make the running agent reread its file, and wait for the verdict
  anchorhold-agent localseal forget FILE destroy the keys that the agent of this configuration sealed for a
                                         restart without the broker
  anchorhold-agent volume open NAME      as root, open and mount an encrypted volume of the file
                                         /etc/anchorhold/volumes.yaml (--config FILE); close undoes it
  anchorhold-agent volume check FILE     check such a file, on any machine
  anchorhold-agent version               print the version and the kind of build

Example: anchorhold-agent run --config /etc/anchorhold/agent.yaml
Exit status: 0 done, 1 failed (reload: the agent refused the file), 2 wrong command line or configuration.
`
