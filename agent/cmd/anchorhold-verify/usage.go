package main

// usage is the help.
const usage = `anchorhold-verify verifies proofs of inference and of gradient bounds, without an
agent, a broker, a network or a prover.

  anchorhold-verify [flags] FILE...     envelopes, binary or JSON, with or without a receipt

  --vk PATH              a verifying key, or a directory of keys (DIGEST.vk) with their
                         records (CIRCUIT.record.json); repeat for several
  --record FILE          a record that states the purpose of a key; repeat for several
  --model ID             refuse statements of another model (64 hexadecimal digits)
  --timeout DURATION     stop after this time (10s); what is left is refused
  --allow-development    accept keys whose maker could forge proofs
  --allow-unregistered   accept keys without a record of their purpose
  --json                 print JSON
  --version              print the version

Examples:
  anchorhold-verify --vk keys/ answer.proof.json
  anchorhold-verify --vk 5f2c.vk --record circuit.record.json --model 91ab... *.proof
  anchorhold-verify --vk keys/ --timeout 2s --json answers/*.proof.json

Know where the keys come from: a stranger's proofs verify with a stranger's keys.
A receipt in a file is not checked; 'anchorhold proof verify' does that.

Exit status: 0 all verified, 1 failed, such as an unreadable file, 2 wrong command line,
3 at least one refused. Reasons of a refusal: envelope-malformed, key-unknown, key-malformed,
key-unregistered, key-development, statement-mismatch, model-mismatch, proof-invalid,
timeout.
`
