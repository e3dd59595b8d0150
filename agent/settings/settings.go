// Package settings is the agent's configuration: one YAML file, decoded
// strictly and checked whole before anything starts.
//
// A [Config] whose findings are Runnable says everything that the agent needs and nothing
// that it would not honour. The first four sections keep the names of the configuration
// template (docs/architecture.md); a file in the template's bare form is read, and the
// findings name what it still needs. Unknown keys, a transport weaker than hybrid, and
// parameters below the security tables are refused.
package settings

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/systemd/config"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

// Config is the agent's whole configuration. The first four sections keep the
// names and values of the configuration template (docs/architecture.md); the others are what the daemon
// needs beside them. Unknown and duplicate keys are errors with line and column.
type Config struct {
	// Transport states the key exchange that connections must use.
	Transport Transport `yaml:"transport"`
	// Compute states the TEE, the lease and the memory limit.
	Compute Compute `yaml:"compute"`
	// Aggregation names the parameters of encrypted sums.
	Aggregation Aggregation `yaml:"aggregation"`
	// Verification states how proofs are made and checked.
	Verification Verification `yaml:"verification"`

	// Broker says where keys come from and which roots to trust.
	Broker Broker `yaml:"broker"`
	// Guest is what this guest states of itself.
	Guest Guest `yaml:"guest"`
	// LocalRestart seals keys for a restart without the broker.
	LocalRestart LocalRestart `yaml:"local_restart"`
	// Models are the sealed models to serve.
	Models []Model `yaml:"models"`
	// Classifiers are the sealed classifiers to serve.
	Classifiers []Classifier `yaml:"classifiers"`
	// Proofs says which answers of classifiers are proven, and with which keys.
	Proofs Proofs `yaml:"proofs"`
	// Federation makes the agent a participant of federated rounds.
	Federation Federation `yaml:"federation"`
	// Workers are the processes that long work runs in.
	Workers Workers `yaml:"workers"`
	// Jobs bounds the queue of long work.
	Jobs Jobs `yaml:"jobs"`
	// Spool bounds what long work stores on disk.
	Spool Spool `yaml:"spool"`
	// Secrets are handed on to other services of this guest.
	Secrets []Secret `yaml:"secrets"`
	// Credentials is the socket on which systemd asks for them.
	Credentials Credentials `yaml:"credentials"`
	// Socket is the local API.
	Socket Socket `yaml:"socket"`
	// Receipts says which receipts the agent keeps for its clients.
	Receipts Receipts `yaml:"receipts"`
	// Log sets verbosity and form.
	Log Log `yaml:"log"`
}

// Transport is the template's section of that name.
type Transport struct {
	TLS struct {
		// Version is the TLS version: "1.3" and no other.
		Version string `yaml:"version"`
		// KeyExchange is "hybrid" and no other.
		KeyExchange string `yaml:"key_exchange"`
		// Classical is the classical half: "X25519" or "ECDHE_P256".
		Classical string `yaml:"classical"`
		// PostQuantum is the post-quantum half: "ML_KEM_768".
		PostQuantum string `yaml:"post_quantum"`
		// EnforcePQCFirst must be true: a connection without the
		// post-quantum half does not exist here.
		EnforcePQCFirst *bool `yaml:"enforce_pqc_first"`
		// FallbackPolicy is "reject" and no other.
		FallbackPolicy string `yaml:"fallback_policy"`
	} `yaml:"tls"`
}

// Compute is the template's section of that name.
type Compute struct {
	TEE struct {
		// Provider is whose evidence proves this guest: "amd_sev_snp", "intel_tdx", "azure" for either
		// under Azure's paravisor, or "auto" for the one of them that is here. "vtpm" is a TPM
		// alone, which the host may emulate; auto never chooses it. Development builds emulate all:
		// "software" (SEV-SNP), "software_tdx" and "software_tdx_v5" (quotes of version 4 and 5),
		// "software_vtpm", "software_azure_snp" and "software_azure_tdx".
		Provider string `yaml:"provider"`
		// AttestationTTLSeconds is the longest lease that the agent uses,
		// 300 to 900; the broker may grant less.
		AttestationTTLSeconds int `yaml:"attestation_ttl_seconds"`
		// MemoryLimitMB bounds the whole process, in MiB.
		MemoryLimitMB int `yaml:"memory_limit_mb"`
		// MeasurementWhitelist lists the launch measurements, of TDX the MRTD, under which this
		// configuration may run: "sha384:" and 96 hexadecimal digits (the
		// measurement) or "sha256:" and 64 (the SHA-256 of its 48 bytes).
		// Empty means that only the broker judges the measurement.
		MeasurementWhitelist []string `yaml:"measurement_whitelist"`
		// TPM is the TPM of the providers "vtpm" and "azure", which have one without it, too. With
		// "amd_sev_snp" and "intel_tdx" it adds the TPM's quote to the evidence, also as "tpm: {}".
		TPM *TPM `yaml:"tpm"`
		// VMPL is the privilege level that reports of SEV-SNP are asked for, 0 to 3, with "amd_sev_snp"
		// and "auto", which has no use for it on other hardware. Without it the kernel chooses. A report
		// of another level is refused.
		VMPL *int `yaml:"vmpl"`
	} `yaml:"tee"`
}

// Values of compute.tee.provider.
const (
	ProviderSNP              = "amd_sev_snp"
	ProviderTDX              = "intel_tdx"
	ProviderAzure            = "azure"
	ProviderVTPM             = "vtpm"
	ProviderAuto             = "auto"
	ProviderSoftware         = "software"
	ProviderSoftwareTDX      = "software_tdx"
	ProviderSoftwareTDXv5    = "software_tdx_v5"
	ProviderSoftwareVTPM     = "software_vtpm"
	ProviderSoftwareAzureSNP = "software_azure_snp"
	ProviderSoftwareAzureTDX = "software_azure_tdx"
)

// SoftwareProviders are those of development builds, whose evidence proves nothing.
func SoftwareProviders() []string {
	return []string{ProviderSoftware, ProviderSoftwareTDX, ProviderSoftwareTDXv5, ProviderSoftwareVTPM, ProviderSoftwareAzureSNP, ProviderSoftwareAzureTDX}
}

// Providers are all of them.
func Providers() []string {
	return append([]string{ProviderSNP, ProviderTDX, ProviderAzure, ProviderVTPM, ProviderAuto}, SoftwareProviders()...)
}

// Software reports whether the provider is one of development builds.
func (c Compute) Software() bool { return slices.Contains(SoftwareProviders(), c.TEE.Provider) }

// Aggregation is the template's section of that name.
type Aggregation struct {
	// Scheme is "CKKS".
	Scheme string `yaml:"scheme"`
	// Library names a parameter convention: "OpenFHE", "SEAL" or "Lattigo".
	Library string `yaml:"library"`
	// PolynomialModulusDegree is the ring degree N, a power of two.
	PolynomialModulusDegree int `yaml:"polynomial_modulus_degree"`
	// CoefficientModulus lists the bit sizes of the primes.
	CoefficientModulus []int `yaml:"coefficient_modulus"`
	// Scale is the encoding scale, a power of two such as 2^40.
	Scale config.Scale `yaml:"scale"`
	// NoiseBudgetThreshold is the number of bits that must be left after the
	// largest sum.
	NoiseBudgetThreshold int `yaml:"noise_budget_threshold"`
}

// Verification is the template's section of that name.
type Verification struct {
	ZKP struct {
		// Scheme is "zkSNARK".
		Scheme string `yaml:"scheme"`
		// ProverMode is "async".
		ProverMode string `yaml:"prover_mode"`
		// WorkerPoolSize is the number of proving workers.
		WorkerPoolSize int `yaml:"worker_pool_size"`
		// VerificationTimeoutMS bounds one verification, in milliseconds.
		VerificationTimeoutMS int `yaml:"verification_timeout_ms"`
	} `yaml:"zkp"`
}

// Broker says where keys come from and which roots to trust.
type Broker struct {
	// Address is host:port.
	Address string `yaml:"address"`
	// ServerName is the name in the broker's TLS certificate; by default the
	// host of Address.
	ServerName string `yaml:"server_name"`
	// TLSRoots is a PEM file with the certificates (several during a rotation) that may sign the broker's
	// TLS certificate, or that certificate itself.
	TLSRoots string `yaml:"tls_roots"`
	// RootKeys are the broker's root identities ("ahpub1...") or files that
	// hold one each. They belong into the measured image.
	RootKeys []string `yaml:"root_keys"`
	// MinimumEpoch is the lowest broker epoch that this image accepts, of every root.
	MinimumEpoch uint64 `yaml:"minimum_epoch"`
	// Profile is "default" or "fips".
	Profile string `yaml:"profile"`
}

// Guest is what this guest states of itself; the broker's policy judges it.
type Guest struct {
	// ImageID names the VM image.
	ImageID string `yaml:"image_id"`
	// Tenant names the tenant, if any.
	Tenant string `yaml:"tenant"`
	// StateDir keeps the highest broker epoch seen (and, with the software
	// TEE, its chain).
	StateDir string `yaml:"state_dir"`
	// SoftwareMeasurement is the measurement that the software TEE reports,
	// 96 hexadecimal digits. Development builds only.
	SoftwareMeasurement string `yaml:"software_measurement"`
}

// Model is one sealed model to serve.
type Model struct {
	// Name is the model's name in the API.
	Name string `yaml:"name"`
	// SealedName is the name that the publisher sealed the model under; empty
	// accepts any.
	SealedName string `yaml:"sealed_name"`
	// Path is the sealed file.
	Path string `yaml:"path"`
	// Resource is the name of its key at the broker.
	Resource string `yaml:"resource"`
	// Publisher is the identity that must have signed the file ("ahpub1..."
	// or a file that holds one).
	Publisher string `yaml:"publisher"`
	// MinimumVersion is the lowest model version to accept.
	MinimumVersion uint64 `yaml:"minimum_version"`
	// Mode is "auto" (resident when it fits), "resident" or "streamed".
	Mode string `yaml:"mode"`
	// Context is the largest number of tokens of a conversation; 0 takes what
	// fits the memory limit, at most 4096.
	Context int `yaml:"context"`
	// Sequences is the number of requests that run at the same time, each with room for a whole context; 0 is at most 16 that
	// share the room of as many contexts as the memory limit has beside the weights, four to a context.
	Sequences int `yaml:"sequences"`
	// Threads is the number of compute threads; 0 is one for each CPU.
	Threads int `yaml:"threads"`
	// Cache is how keys and values of the tokens before are kept: "f16" (the default) or "q8", which takes a
	// little over half as much, so that a longer context fits, and is less exact.
	Cache string `yaml:"cache"`
	// Kernel forces a set of kernels: "auto", "amx", "avx512", "avx2", "dotprod", "neon" or "generic".
	Kernel string `yaml:"kernel"`
	// MemoryMB is the model's part of the memory limit, in MiB: weights, cache and scratch memory.
	// Where there are several models, those that leave it out share what the others, the process and
	// the requests leave, by what their files need.
	MemoryMB int `yaml:"memory_mb"`
}

// Classifier is one sealed classifier. The fields are those of Model.
type Classifier struct {
	Name           string `yaml:"name"`
	SealedName     string `yaml:"sealed_name"`
	Path           string `yaml:"path"`
	Resource       string `yaml:"resource"`
	Publisher      string `yaml:"publisher"`
	MinimumVersion uint64 `yaml:"minimum_version"`
}

// Proofs says which answers are proven. Without a directory of keys none are.
type Proofs struct {
	// Keys is a directory with the circuits and keys that the broker's operator
	// registered, as `anchorhold proof setup` writes them.
	Keys string `yaml:"keys"`
	// Mode is "all", "sampled" (a part of the answers) or "on-demand", which is the
	// default: what a client asks for. The broker's challenges are answered in every
	// mode.
	Mode string `yaml:"mode"`
	// Rate is the part of the answers that "sampled" proves, above 0 to 1.
	Rate float64 `yaml:"rate"`
	// Registry is host:port where the broker takes receipts and proofs; without it
	// proofs stay here.
	Registry string `yaml:"registry"`
	// AllowDevelopmentSetup takes keys whose maker could forge proofs; for development.
	AllowDevelopmentSetup bool `yaml:"allow_development_setup"`
	// MemoryMB bounds a proving worker, in MiB; 0 is 1024. A proof that needs more, by the
	// sizes of its circuit and key, is refused; one that needs less gets less.
	MemoryMB int `yaml:"memory_mb"`
	// Kept is how many proofs the agent keeps, 0 is 16384, and KeptDays how long, 0 is 90.
	// One that the registry has still to take goes with its age alone.
	Kept     int `yaml:"kept"`
	KeptDays int `yaml:"kept_days"`
}

// Proves says whether the agent makes proofs.
func (c Config) Proves() bool { return c.Proofs.Keys != "" && len(c.Classifiers) > 0 }

// Federation names the aggregators of federated rounds. Without aggregators the
// agent takes part in none.
type Federation struct {
	// Aggregators are host:port each: one, or the shards in their order.
	Aggregators []string `yaml:"aggregators"`
	// ServerName is the name in the aggregators' TLS certificates; by default the
	// host of each address.
	ServerName string `yaml:"server_name"`
	// TLSRoots is a PEM file with the certificates that may sign theirs, or those
	// certificates themselves.
	TLSRoots string `yaml:"tls_roots"`
	// Membership is a resource at the broker whose release makes this guest a
	// participant; needed where the agent serves no model.
	Membership string `yaml:"membership"`
	// QueueKey is a resource at the broker, 32 bytes, that seals the job queue.
	// With it jobs survive a restart of the agent; without, they end with it.
	QueueKey string `yaml:"queue_key"`
}

// Workers are the processes that long work runs in, apart from the agent.
type Workers struct {
	// Path is the worker's binary, which the agent starts; by default
	// anchorhold-worker beside the agent's own.
	Path string `yaml:"path"`
	// Socket is that of anchorhold-worker.socket; where it is set, the service
	// manager starts the workers.
	Socket string `yaml:"socket"`
	// Count is how many run at the same time; 0 is 1. Together they get no more memory
	// than Count times MemoryMB, or than Proofs.MemoryMB where that is more.
	Count int `yaml:"count"`
	// MemoryMB bounds each, in MiB; 0 is 256.
	MemoryMB int `yaml:"memory_mb"`
	// TimeSeconds bounds each; 0 is 3600.
	TimeSeconds int `yaml:"time_seconds"`
}

// Jobs bounds the queue of long work.
type Jobs struct {
	// Waiting is how many jobs wait or run at most; 0 is 1024. WaitingPerUID is how many
	// of one user; 0 is three quarters of Waiting.
	Waiting       int `yaml:"waiting"`
	WaitingPerUID int `yaml:"waiting_per_uid"`
	// Kept is how many jobs that ended are kept; 0 is 4096. Beyond it the oldest of the
	// user who has the most are forgotten.
	Kept int `yaml:"kept"`
	// KeptDays is how long they are kept; 0 is 30.
	KeptDays int `yaml:"kept_days"`
	// SizeMB bounds what jobs say and what came of them, in MiB; 0 is 256. The jobs of one
	// user that wait or run get three quarters.
	SizeMB int `yaml:"size_mb"`
}

// Spool bounds what long work stores on disk: vectors, their ciphertexts, results.
type Spool struct {
	// SizeMB is how much there is at most, in MiB; 0 is 8192. SizePerUIDMB is how much of
	// one user; 0 is half of SizeMB.
	SizeMB       int `yaml:"size_mb"`
	SizePerUIDMB int `yaml:"size_per_uid_mb"`
	// FreeMB is how much of the disk stays free, in MiB: below it nothing is taken. 0 is
	// 512.
	FreeMB int `yaml:"free_mb"`
}

// Participates says whether the agent takes part in federated rounds.
func (c Config) Participates() bool { return len(c.Federation.Aggregators) > 0 }

// Resources are the names of all keys that the agent asks the broker for.
func (c Config) Resources() []string {
	var list []string
	for _, m := range c.Models {
		list = append(list, m.Resource)
	}
	for _, m := range c.Classifiers {
		list = append(list, m.Resource)
	}
	for _, name := range []string{c.Federation.Membership, c.Federation.QueueKey} {
		if name != "" && (c.Participates() || c.Proves()) {
			list = append(list, name)
		}
	}
	for _, s := range c.Secrets {
		list = append(list, s.Resource)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Socket is the local API's socket and its limits.
type Socket struct {
	// Path is the unix socket; ignored under socket activation.
	Path string `yaml:"path"`
	// AllowedUsers and the members of AllowedGroups may connect, by name or number, beside
	// root and the agent's own user. Without both keys the members of the group anchorhold may.
	AllowedUsers  []Account `yaml:"allowed_users"`
	AllowedGroups []Account `yaml:"allowed_groups"`
	// Queue is the number of requests that may wait; 0 is 16. One user gets three of
	// four places, and some are kept for each of several models.
	Queue int `yaml:"queue"`
	// MemoryMB bounds what all requests hold together, in MiB: bodies, what is read from
	// them, answers. One request gets seven eighths. 0 is 4, with classifiers 16, and more
	// where MaxBodyBytes needs it. What is above 4 is taken from the models' memory.
	MemoryMB int `yaml:"memory_mb"`
	// MaxBodyBytes bounds a request body; 0 is 1 MiB.
	MaxBodyBytes int64 `yaml:"max_body_bytes"`
	// RequestSeconds bounds one request; 0 is 300.
	RequestSeconds int `yaml:"request_seconds"`
	// Limits of connections: connections, by default one for each 2 MiB of the memory limit, at least 16 and
	// at most 256; per_source, of one user, seven eighths of them; header_seconds, 5.
	Limits listen.Limits `yaml:"limits"`
}

// Receipts says which receipts are kept, in memory, for clients that ask for them later.
// Who wants to lose none asks for the whole receipt with the answer.
type Receipts struct {
	// Kept is how many there are at most; 0 is 512. One takes some 4 KiB.
	Kept int `yaml:"kept"`
	// KeptPerUID is how many one user has at most; 0 is a quarter of Kept.
	KeptPerUID int `yaml:"kept_per_uid"`
	// KeptMinutes is how long one is kept; 0 is 1440, a day.
	KeptMinutes int `yaml:"kept_minutes"`
}

// Log sets verbosity and form.
type Log struct {
	// Level is "debug", "info", "warn" or "error".
	Level string `yaml:"level"`
	// Format is "text" or "json". Empty means the journal's own fields where the service
	// manager connected standard error to the journal, else text.
	Format string `yaml:"format"`
}

const maxConfigBytes = 1 << 20

// Read reads and checks a configuration file. The findings hold every
// error and notice; the error is for a file that cannot be read or decoded.
func Read(path string) (Config, Findings, error) {
	data, err := config.ReadFile(path, maxConfigBytes)
	if err != nil {
		return Config{}, Findings{}, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(data)
}

// Parse decodes and checks a configuration.
func Parse(data []byte) (Config, Findings, error) {
	var cfg Config
	if err := config.Decode(data, &cfg); err != nil {
		return Config{}, Findings{}, err
	}
	return cfg, cfg.Check(), nil
}

// Lease is the longest lease that the agent uses.
func (c Config) Lease() time.Duration {
	return time.Duration(c.Compute.TEE.AttestationTTLSeconds) * time.Second
}

// MemoryLimit is the limit of the whole process, in bytes.
func (c Config) MemoryLimit() int64 { return int64(c.Compute.TEE.MemoryLimitMB) << 20 }

// bodyCost is how many times its size a completion request takes of RequestMemory, with
// what one user leaves to others.
const bodyCost = 4

// RequestMemory bounds what all requests hold together, in bytes.
func (c Config) RequestMemory() int64 {
	if c.Socket.MemoryMB != 0 {
		return int64(c.Socket.MemoryMB) << 20
	}
	least := int64(4 << 20)
	if len(c.Classifiers) > 0 {
		least = 16 << 20
	}
	return max(least, bodyCost*c.Socket.MaxBodyBytes)
}

// Connections to the local API where the configuration does not say how many: one for each so many bytes
// of the memory limit, between two bounds.
const (
	memoryOfConnection   = 2 << 20
	leastConnections     = 16
	mostConnections      = 256
	connectionCost       = 20 << 10 // stacks, buffers and headers of one, measured
	headerSeconds        = 5
	ofConnectionsPerUser = 8 // one in so many is left to others
)

// defaultConnections is the number of connections that the memory limit's reserve has room for.
func (c Config) defaultConnections() int {
	return int(min(max(c.MemoryLimit()/memoryOfConnection, leastConnections), mostConnections))
}

// ConnectionLimits are those of the local API, with the defaults of what the configuration leaves open.
func (c Config) ConnectionLimits() listen.Limits {
	all := c.Socket.Limits.Connections
	if all == 0 {
		all = c.defaultConnections()
	}
	return c.Socket.Limits.Or(listen.Limits{Connections: all, Unproven: all, PerSource: max(all-all/ofConnectionsPerUser, 1), HeaderSeconds: headerSeconds})
}

// ConnectionMemory is what connections above the default number hold, in bytes. It is taken from the models' memory.
func (c Config) ConnectionMemory() int64 {
	return connectionCost * int64(max(0, c.Socket.Limits.Connections-c.defaultConnections()))
}

// WorkerMemory bounds one worker, in bytes.
func (c Config) WorkerMemory() int64 {
	if c.Workers.MemoryMB == 0 {
		return 256 << 20
	}
	return int64(c.Workers.MemoryMB) << 20
}

// WorkerTime bounds one task.
func (c Config) WorkerTime() time.Duration {
	if c.Workers.TimeSeconds == 0 {
		return time.Hour
	}
	return time.Duration(c.Workers.TimeSeconds) * time.Second
}

// ProofMemory bounds one proving worker, in bytes.
func (c Config) ProofMemory() int64 {
	if c.Proofs.MemoryMB == 0 {
		return 1 << 30
	}
	return int64(c.Proofs.MemoryMB) << 20
}

// Sequences is how many completions run at the same time, of all models together.
func (c Config) Sequences() int {
	n := 0
	for _, m := range c.Models {
		n += max(1, m.Sequences)
	}
	return max(1, n)
}

// RootIdentities are the broker's root identities.
func (c Config) RootIdentities() ([]identity.Public, error) {
	var roots []identity.Public
	for _, entry := range c.Broker.RootKeys {
		root, err := Identity(entry)
		if err != nil {
			return nil, fmt.Errorf("broker.root_keys: %w", err)
		}
		if root.Level() != identity.LevelRoot {
			return nil, fmt.Errorf("broker.root_keys: %.16s... is not a root identity (ML-DSA-87)", entry)
		}
		roots = append(roots, root)
	}
	return roots, nil
}

// Identity takes a public identity from its text form or from a file.
func Identity(value string) (identity.Public, error) {
	var pub identity.Public
	if err := pub.UnmarshalText([]byte(value)); err == nil {
		return pub, nil
	}
	pub, err := identity.ReadPublicFile(value)
	if errors.Is(err, os.ErrNotExist) {
		return identity.Public{}, fmt.Errorf("%q is neither a public identity (ahpub1...) nor an existing file that holds one", value)
	}
	return pub, err
}
