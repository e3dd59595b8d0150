package main

import "github.com/anchorhold/anchorhold/packaging/softpolicy"

const brokerConfig = `state_dir: /var/lib/anchorhold/broker
listen: ` + broker + `
unlock: {credential: broker.kek}
operator: {socket: /run/anchorhold-broker/operator.sock}
software_tee_root: /etc/anchorhold/software-tee.pem
rounds:
  checkpoint: ` + keptDir + `/rounds
  privacy: {max_epsilon: 20, delta: 0.00001, minimum_cohort: 2, without_noise: nothing is decrypted here, allow_software_tee: true}
`

const aggregatorAddress = "127.0.0.1:8444"

const aggregatorConfig = `state_dir: /var/lib/anchorhold/aggregator
listen: ` + aggregatorAddress + `
tls_certificate: /etc/anchorhold/aggregator.crt
tls_key: /etc/anchorhold/aggregator.key
root_keys: [/etc/anchorhold/root.key.pub]
admin_socket: /run/anchorhold-aggregator/admin.sock
`

const agentConfig = `compute:
  tee: {provider: software, attestation_ttl_seconds: 300, memory_limit_mb: 128}
verification:
  zkp: {scheme: zkSNARK, prover_mode: async, worker_pool_size: 1, verification_timeout_ms: 20000}
broker: {address: "` + broker + `", tls_roots: /etc/anchorhold/tls.crt, root_keys: [/etc/anchorhold/root.key.pub], minimum_epoch: 1}
guest: {image_id: boot-image, state_dir: /var/lib/anchorhold/agent, software_measurement: %q}
classifiers:
  - {name: digits, path: /var/lib/anchorhold/digits.ahm, resource: models/digits, publisher: /etc/anchorhold/publisher.key.pub, minimum_version: 1}
proofs: {keys: /var/lib/anchorhold/keys, mode: all, allow_development_setup: true, memory_mb: 512}
federation: {aggregators: ["` + aggregatorAddress + `"], tls_roots: /etc/anchorhold/aggregator.crt, membership: members/boot}
workers: {socket: /run/anchorhold/worker.sock}
secrets:
  - {name: tls.key, resource: secrets/web-tls, units: [nginx.service, reader.service], users: [alice]}
  - {name: data, resource: volumes/data, volumes: [data]}
  - {name: vault, resource: volumes/vault, users: [root]}
socket: {path: /run/anchorhold/agent.sock}
`

const policyFile = `format: 2
id: boot
version: 1
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
allow_software_tee: true
require:
  kinds: [sev-snp]
  reference_values: [boot/*]
` + softpolicy.RequireSNP + `  image_ids: [boot-image]
  memory_limit: {min_mib: 32, max_mib: 128}
rules:
  - resources: [models/*, members/*]
    roles: [serve, contribute]
  - resources: [secrets/*, volumes/*]
waive:
` + softpolicy.WaiveSNP + `  - {check: agent-build, reason: the image decides which agent runs}
  - {check: tenant, reason: there are no tenants}
`
