package main

import "fmt"

const (
	// brokerAddress is where the guest's network has the broker.
	brokerAddress = "10.0.2.100:9443"
	imageName     = "test"
	valuesName    = "images/" + imageName
	imageID       = "test-image"
)

// tee is what both agents say of their evidence and of the broker.
const tee = `compute:
  tee:
    provider: vtpm
    attestation_ttl_seconds: 300
    memory_limit_mb: 64
    tpm: {pcrs: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14]}
broker: {address: "` + brokerAddress + `", tls_roots: /etc/anchorhold/tls.crt, root_keys: [/etc/anchorhold/root.key.pub], minimum_epoch: 1}
`

// agentConfig is of the agent, whose state is on an encrypted volume: proofs of its answers, too.
const agentConfig = tee + `guest: {image_id: ` + imageID + `, state_dir: /var/lib/anchorhold/agent}
classifiers:
  - {name: digits, path: /usr/lib/anchorhold/models/digits.ahm, resource: models/digits, publisher: /etc/anchorhold/publisher.key.pub, minimum_version: 1}
verification: {zkp: {scheme: zkSNARK, prover_mode: async, worker_pool_size: 1, verification_timeout_ms: 20000}}
proofs: {keys: /` + proofKeys + `, mode: all, allow_development_setup: true, memory_mb: 512}
federation: {queue_key: agents/queue}
workers: {socket: /run/anchorhold/worker.sock}
spool: {free_mb: 8}
socket: {path: /run/anchorhold/agent.sock}
`

// proofKeys is where the keys are with which answers are proven.
const proofKeys = "usr/lib/anchorhold/keys"

// unlockConfig is of the agent that has that volume's key.
const unlockConfig = tee + `guest: {image_id: ` + imageID + `, state_dir: /run/anchorhold-agent-unlock}
secrets:
  - {name: ` + stateVolume + `, resource: volumes/` + stateVolume + `, users: [root]}
socket: {path: ` + unlockSocket + `}
`

// Volumes of the images of this test. Their disks have them as serials, too.
const (
	stateVolume   = "var"
	scratchVolume = "scratch"
	forgedVolume  = "forged" // a copy of the first with a header of the host's
)

const (
	stateMount   = "/var/lib/anchorhold"
	scratchMount = "/var/scratch"
)

// volumesConfig has the volume of the state, one that lives for one boot, and one that nothing starts.
const volumesConfig = `volumes:
  - {name: ` + stateVolume + `, device: /dev/disk/by-id/virtio-` + stateVolume + `, mount: ` + stateMount + `, key: broker, agent: ` + unlockSocket + `, format_if_empty: true, wait_seconds: 290}
  - {name: ` + scratchVolume + `, device: /dev/disk/by-id/virtio-` + scratchVolume + `, mount: ` + scratchMount + `, key: boot, format_if_empty: true}
  - {name: ` + forgedVolume + `, device: /dev/disk/by-id/virtio-` + forgedVolume + `, mount: /var/forged, key: broker, agent: ` + unlockSocket + `, secret: ` + stateVolume + `}
`

// volumeBytes is the size of a volume's disk.
const volumeBytes = 48 << 20

// reportUnit is in the images of this test alone: it lets the guest speak to the outside by itself.
const reportUnit = `[Unit]
Description=Report of the image test
After=anchorhold-agent.socket
[Service]
ExecStart=/usr/lib/anchorhold-imagetest/imagetest -inside
[Install]
WantedBy=multi-user.target
`

// reportRule names the port.
const reportRule = `SUBSYSTEM=="virtio-ports", KERNEL=="vport*", ATTR{name}=="?*", SYMLINK+="virtio-ports/$attr{name}"
`

// policyFile releases to guests that quoted the values of one image at the end of its boot, by a TPM that was enrolled. Such a guest is
// bound to what was booted, and is no secret from its host: nothing here speaks of a processor.
const policyFile = `format: 2
id: image
version: 1
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
require:
  kinds: [vtpm]
  reference_values: [` + valuesName + `/vtpm/ready]
  tpm: {ak_trust: [enrolled], pcrs: [4, 7, 11, 12]}
  event_log: {registers: [pcr0, pcr4, pcr7]}
  image_ids: [` + imageID + `]
  memory_limit: {min_mib: 32, max_mib: 128}
rules:
  - resources: [models/*, agents/queue]
  - resources: [volumes/` + stateVolume + `]
waive:
  - {check: agent-build, reason: the image decides which agent runs}
  - {check: tenant, reason: there are no tenants}
`

func platformFile(uki, disk, log string) string {
	return fmt.Sprintf("format: 1\nname: %s\nimage: {uki: %q, disk: %q, initrd: plain}\ntpm: {bank: sha256, event_log: %q}\n", valuesName, uki, disk, log)
}

func brokerConfig(state, listen, operator, key string) string {
	return fmt.Sprintf("state_dir: %s\nlisten: %s\nunlock: {credential: broker.kek}\noperator: {socket: %s}\nappraisal: {tpm: {enrolled: [%s]}}\nlog: {level: info, format: text}\n", state, listen, operator, key)
}
