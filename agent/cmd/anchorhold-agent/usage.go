package main

const usage = `anchorhold-agent serves sealed models to local clients inside a confidential VM.

  anchorhold-agent run --config FILE     attest, serve, renew; SIGHUP reads FILE again
  anchorhold-agent check FILE            check a configuration, and what it needs of this machine;
                                         change nothing
  anchorhold-agent reload                have the running agent read its file again, and wait for its verdict
  anchorhold-agent version               print the version and what this build is

Example: anchorhold-agent run --config /etc/anchorhold/agent.yaml
Exit status: 0 done, 1 failed (reload: the agent refused the file), 2 wrong command line or configuration.
`
