package settings

import (
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/crypto/he/params"
)

// maxClaimBytes bounds what a guest says about itself; the client refuses more.
const maxClaimBytes = 128

// Findings is the result of checking a configuration: errors forbid a start,
// notices tell what an admin should know, and missing names what a file in the
// form of the bare template still needs before the daemon can run.
type Findings struct {
	// Errors forbid a start.
	Errors []string
	// Notices are worth reading and forbid nothing.
	Notices []string
	// Missing names what the daemon needs and the file does not state.
	Missing []string
	// Handed says which secrets other services of the guest get, and who.
	Handed []string
}

func (f *Findings) errorf(format string, args ...any) {
	f.Errors = append(f.Errors, fmt.Sprintf(format, args...))
}

func (f *Findings) noticef(format string, args ...any) {
	f.Notices = append(f.Notices, fmt.Sprintf(format, args...))
}

// Runnable returns an error that lists all that forbids a start.
func (f Findings) Runnable() error {
	all := slices.Clone(f.Errors)
	for _, m := range f.Missing {
		all = append(all, m+" is missing")
	}
	if len(all) == 0 {
		return nil
	}
	return fmt.Errorf("configuration: %s", strings.Join(all, "; "))
}

// Check finds everything that is wrong with the configuration, or worth knowing.
func (c Config) Check() Findings {
	var f Findings
	c.Transport.check(&f)
	c.Compute.check(&f)
	if c.Aggregation.Stated() {
		c.Aggregation.check(&f)
	}
	if c.Verification.Stated() {
		c.Verification.check(&f)
	}
	c.checkBroker(&f)
	c.checkLocalRestart(&f)
	c.checkModels(&f)
	c.checkClassifiers(&f)
	c.checkFederation(&f)
	c.checkSecrets(&f)
	c.checkSocket(&f)
	c.checkKept(&f)
	if !slices.Contains([]string{"", "debug", "info", "warn", "error"}, c.Log.Level) {
		f.errorf("log.level: %q is unknown; use debug, info, warn or error", c.Log.Level)
	}
	if !slices.Contains([]string{"", "text", "json"}, c.Log.Format) {
		f.errorf("log.format: %q is unknown; use text or json", c.Log.Format)
	}
	return f
}

// Stated reports a section that says anything: one without a scheme would demand nothing of rounds.
func (a Aggregation) Stated() bool { return !reflect.DeepEqual(a, Aggregation{}) }

// Stated reports a section that says anything: what it says is checked, also without a scheme.
func (v Verification) Stated() bool { return v != Verification{} }

// Check finds what is wrong with the section alone.
func (a Aggregation) Check() Findings {
	var f Findings
	a.check(&f)
	return f
}

// Set is the parameter set that the section names by its numbers.
func (a Aggregation) Set() (params.Set, error) {
	return params.Match(a.PolynomialModulusDegree, a.CoefficientModulus, a.Scale.Log2())
}

func (t Transport) check(f *Findings) {
	one := func(field, got string, allowed ...string) {
		if got != "" && !slices.Contains(allowed, got) {
			f.errorf("transport.tls.%s: %q is refused; this daemon speaks %s", field, got, strings.Join(allowed, " or "))
		}
	}
	one("version", t.TLS.Version, "1.3")
	one("key_exchange", t.TLS.KeyExchange, "hybrid")
	one("classical", t.TLS.Classical, "ECDHE_P256", "X25519")
	one("post_quantum", t.TLS.PostQuantum, "ML_KEM_768")
	one("fallback_policy", t.TLS.FallbackPolicy, "reject")
	if t.TLS.EnforcePQCFirst != nil && !*t.TLS.EnforcePQCFirst {
		f.errorf("transport.tls.enforce_pqc_first: false is refused; this agent makes no connection without the post-quantum half")
	}
}

func (c Compute) check(f *Findings) {
	switch p := c.TEE.Provider; {
	case p == "":
		f.Missing = append(f.Missing, "compute.tee.provider")
	case !slices.Contains(Providers(), p):
		f.errorf("compute.tee.provider: %q is unknown; use amd_sev_snp, intel_tdx, azure, vtpm or auto", p)
	default:
		c.checkTPM(f)
		c.checkVMPL(f)
	}
	if ttl := c.TEE.AttestationTTLSeconds; ttl == 0 {
		f.Missing = append(f.Missing, "compute.tee.attestation_ttl_seconds")
	} else if ttl < 300 || ttl > 900 {
		f.errorf("compute.tee.attestation_ttl_seconds: %d is outside 300 to 900", ttl)
	}
	if mb := c.TEE.MemoryLimitMB; mb == 0 {
		f.Missing = append(f.Missing, "compute.tee.memory_limit_mb")
	} else if mb < 32 || mb > 1<<20 {
		f.errorf("compute.tee.memory_limit_mb: %d is outside 32 to %d", mb, 1<<20)
	}
	var bad []string
	for _, m := range c.TEE.MeasurementWhitelist {
		if _, _, err := ParseMeasurement(m); err != nil {
			bad = append(bad, m)
		}
	}
	if len(bad) > 0 {
		f.errorf("compute.tee.measurement_whitelist: %s: not a launch measurement; give \"sha384:\" and the 96 hexadecimal digits of the measurement, or \"sha256:\" and the 64 of its SHA-256, for each image that may run (`anchorhold evidence` prints both)", strings.Join(bad, ", "))
	}
}

const maxVMPL = 3

// checkVMPL refuses a level that the provider's evidence does not have.
func (c Compute) checkVMPL(f *Findings) {
	switch p, level := c.TEE.Provider, c.TEE.VMPL; {
	case level == nil:
	case p != ProviderSNP && p != ProviderAuto:
		f.errorf("compute.tee.vmpl: it goes with the providers amd_sev_snp and auto; leave it out")
	case *level < 0 || *level > maxVMPL:
		f.errorf("compute.tee.vmpl: %d is outside 0 to %d", *level, maxVMPL)
	}
}

// ParseMeasurement reads one entry of the whitelist: algorithm and digest. A measurement
// without an algorithm, as leases and the audit log show it, is one of SHA-384.
func ParseMeasurement(s string) (algorithm string, digest []byte, err error) {
	algorithm, text, ok := strings.Cut(s, ":")
	if !ok && len(s) == 96 {
		algorithm, text, ok = "sha384", s, true
	}
	size := map[string]int{"sha384": 48, "sha256": 32}[algorithm]
	if !ok || size == 0 {
		return "", nil, fmt.Errorf("%q names neither sha384 nor sha256", s)
	}
	digest, err = hex.DecodeString(text)
	if err != nil || len(digest) != size || strings.ToLower(text) != text {
		return "", nil, fmt.Errorf("%q does not hold %d lower-case hexadecimal digits", s, 2*size)
	}
	return algorithm, digest, nil
}

func (a Aggregation) check(f *Findings) {
	if a.Scheme != "CKKS" {
		f.errorf("aggregation.scheme: %q is refused; the scheme is CKKS", a.Scheme)
	}
	switch a.Library {
	case "Lattigo":
	case "OpenFHE", "SEAL":
		f.noticef("aggregation.library: %s names the convention in which these parameters are written; the computation itself is done by Lattigo, in a worker process", a.Library)
	default:
		f.errorf("aggregation.library: %q is unknown; use OpenFHE, SEAL or Lattigo", a.Library)
	}
	set, err := a.Set()
	if err != nil {
		f.errorf("aggregation: no parameter set has polynomial_modulus_degree %d, coefficient_modulus %v and scale 2^%d; `anchorhold params list` shows the sets, each of which is within the security tables",
			a.PolynomialModulusDegree, a.CoefficientModulus, a.Scale.Log2())
		return
	}
	if err := set.Check(); err != nil {
		f.errorf("aggregation: %v", err)
	}
	total := int(set.LogQP())
	if a.NoiseBudgetThreshold < 0 || a.NoiseBudgetThreshold > total {
		f.errorf("aggregation.noise_budget_threshold: %d bits are outside 0 to %d", a.NoiseBudgetThreshold, total)
	}
}

func (v Verification) check(f *Findings) {
	if v.ZKP.Scheme != "zkSNARK" {
		f.errorf("verification.zkp.scheme: %q is refused; the scheme is zkSNARK", v.ZKP.Scheme)
	}
	if v.ZKP.ProverMode != "async" {
		f.errorf("verification.zkp.prover_mode: %q is refused; proofs are made async", v.ZKP.ProverMode)
	}
	if v.ZKP.WorkerPoolSize < 0 || v.ZKP.WorkerPoolSize > 256 {
		f.errorf("verification.zkp.worker_pool_size: %d is outside 0 to 256", v.ZKP.WorkerPoolSize)
	}
	if v.ZKP.VerificationTimeoutMS < 1 || v.ZKP.VerificationTimeoutMS > 60_000 {
		f.errorf("verification.zkp.verification_timeout_ms: %d is outside 1 to 60000", v.ZKP.VerificationTimeoutMS)
	}
}

func (c Config) checkBroker(f *Findings) {
	require := func(name, value string) {
		if value == "" {
			f.Missing = append(f.Missing, name)
		}
	}
	require("broker.address", c.Broker.Address)
	if host, port, err := net.SplitHostPort(c.Broker.Address); c.Broker.Address != "" && err != nil {
		f.errorf("broker.address: %v; want host:port", err)
	} else if n, err := strconv.ParseUint(port, 10, 16); c.Broker.Address != "" && (host == "" || err != nil || n == 0) {
		f.errorf("broker.address: %q is not host:port, with a name or address and a port from 1 to 65535", c.Broker.Address)
	}
	for _, claim := range [][2]string{{"guest.image_id", c.Guest.ImageID}, {"guest.tenant", c.Guest.Tenant}} {
		if len(claim[1]) > maxClaimBytes || strings.ContainsFunc(claim[1], func(r rune) bool { return r <= ' ' || r > '~' }) {
			f.errorf("%s: %q must be at most %d printable ASCII characters, without spaces", claim[0], claim[1], maxClaimBytes)
		}
	}
	require("broker.tls_roots", c.Broker.TLSRoots)
	if len(c.Broker.RootKeys) == 0 {
		f.Missing = append(f.Missing, "broker.root_keys")
	}
	require("guest.state_dir", c.Guest.StateDir)
	require("guest.image_id", c.Guest.ImageID)
	if !slices.Contains([]string{"", "default", "fips"}, c.Broker.Profile) {
		f.errorf("broker.profile: %q is unknown; use default or fips", c.Broker.Profile)
	}
	if c.Guest.SoftwareMeasurement != "" && !c.Compute.Software() {
		f.errorf("guest.software_measurement: applies only with a software TEE as compute.tee.provider; hardware measures the guest itself")
	}
}

// maxModels is how many language and embedding models one agent serves.
const maxModels = 8

func (c Config) checkModels(f *Findings) {
	if len(c.Models) == 0 && len(c.Classifiers) == 0 && len(c.Secrets) == 0 && !c.Participates() {
		f.Missing = append(f.Missing, "models or secrets")
	}
	if len(c.Models) > maxModels {
		f.errorf("models: got %d models; an agent serves at most %d", len(c.Models), maxModels)
	}
	if len(c.Models) > 1 && c.LocalRestart.Seal != "" {
		f.errorf("local_restart: it keeps the key of one model, and there are %d", len(c.Models))
	}
	seen := map[string]bool{}
	for i, m := range c.Models {
		if seen[m.Name] {
			f.errorf("models[%d].name: %q is used twice", i, m.Name)
		}
		seen[m.Name] = true
		if m.MemoryMB < 0 || m.MemoryMB > 1<<20 {
			f.errorf("models[%d].memory_mb: %d is outside 1 to %d", i, m.MemoryMB, 1<<20)
		}
		for _, need := range [][2]string{{"name", m.Name}, {"path", m.Path}, {"resource", m.Resource}, {"publisher", m.Publisher}} {
			if need[1] == "" {
				f.errorf("models[%d].%s is missing", i, need[0])
			}
		}
		if !slices.Contains([]string{"", "auto", "resident", "streamed"}, m.Mode) {
			f.errorf("models[%d].mode: %q is unknown; use auto, resident or streamed", i, m.Mode)
		}
		if !slices.Contains([]string{"", "f16", "q8"}, m.Cache) {
			f.errorf("models[%d].cache: %q is unknown; use f16 or q8", i, m.Cache)
		}
		if !slices.Contains([]string{"", "auto", "amx", "avx512", "avx2", "dotprod", "neon", "generic"}, m.Kernel) {
			f.errorf("models[%d].kernel: %q is unknown; use auto, amx, avx512, avx2, dotprod, neon or generic", i, m.Kernel)
		}
		if m.Context < 0 || m.Context > 1<<20 || m.Sequences < 0 || m.Sequences > 256 || m.Threads < 0 || m.Threads > 1024 {
			f.errorf("models[%d]: context, sequences or threads is out of range", i)
		}
	}
}

func (c Config) checkClassifiers(f *Findings) {
	seen := map[string]bool{}
	for _, m := range c.Models {
		seen[m.Name] = true
	}
	for i, m := range c.Classifiers {
		for _, need := range [][2]string{{"name", m.Name}, {"path", m.Path}, {"resource", m.Resource}, {"publisher", m.Publisher}} {
			if need[1] == "" {
				f.errorf("classifiers[%d].%s is missing", i, need[0])
			}
		}
		if seen[m.Name] {
			f.errorf("classifiers[%d].name: %q is used twice", i, m.Name)
		}
		seen[m.Name] = true
	}
	p := c.Proofs
	switch p.Mode {
	case "", "all", "on-demand":
		if p.Rate != 0 {
			f.errorf("proofs.rate needs mode sampled")
		}
	case "sampled":
		if !(p.Rate > 0 && p.Rate <= 1) {
			f.errorf("proofs.rate: %g must be above 0 and at most 1", p.Rate)
		}
	default:
		f.errorf("proofs.mode: %q is unknown; use all, sampled or on-demand", p.Mode)
	}
	if p.MemoryMB != 0 && p.MemoryMB < 128 {
		f.errorf("proofs.memory_mb: %d is too little; even a small proof needs 128", p.MemoryMB)
	}
	if p.Kept < 0 || p.Kept > 1<<20 || p.KeptDays < 0 || p.KeptDays > 3650 {
		f.errorf("proofs: kept must be at most %d, kept_days at most 3650", 1<<20)
	}
	if p.Keys == "" && (p.Mode != "" || p.Registry != "" || p.AllowDevelopmentSetup) {
		f.errorf("proofs.keys is missing: a directory that `anchorhold proof setup` made")
	}
	if p.Keys != "" && len(c.Classifiers) == 0 && !c.Participates() {
		f.errorf("proofs: there is nothing to prove, neither a classifier nor a federated round")
	}
	if p.AllowDevelopmentSetup {
		f.noticef("proofs.allow_development_setup: whoever made these keys could forge proofs; for development only")
	}
	if p.Registry != "" {
		if _, _, err := net.SplitHostPort(p.Registry); err != nil {
			f.errorf("proofs.registry: %v; want host:port", err)
		}
	}
}

func (c Config) checkSocket(f *Findings) {
	s := c.Socket
	for _, socket := range [][2]string{{"socket.path", s.Path}, {"workers.socket", c.Workers.Socket}} {
		field, path := socket[0], socket[1]
		if len(path) > maxSocketPath {
			f.errorf("%s: a socket's path has at most %d bytes, this one has %d", field, maxSocketPath, len(path))
		}
	}
	if s.Queue < 0 || s.Queue > 4096 || s.RequestSeconds < 0 || s.MaxBodyBytes < 0 || s.MaxBodyBytes > 1<<28 {
		f.errorf("socket: queue must be at most 4096, max_body_bytes at most %d, request_seconds not negative", 1<<28)
	}
	if err := s.Limits.Check(); err != nil {
		f.errorf("socket.limits: %v", err)
	}
	if _, _, err := s.Allowed(); err != nil {
		f.errorf("socket: %v", err)
	}
	if s.MemoryMB < 0 || s.MemoryMB > 1<<16 || s.MemoryMB != 0 && int64(s.MemoryMB)<<20 < bodyCost*max(s.MaxBodyBytes, 1<<20) {
		f.errorf("socket.memory_mb: %d is out of range; a completion request takes up to four times its body, which max_body_bytes limits", s.MemoryMB)
	}
}

func (c Config) checkKept(f *Findings) {
	r := c.Receipts
	if r.Kept < 0 || r.Kept > 1<<16 || r.KeptPerUID < 0 || r.KeptPerUID > max(r.Kept, 512) || r.KeptMinutes < 0 || r.KeptMinutes > 525_600 {
		f.errorf("receipts: kept must be at most %d, kept_per_uid at most kept, kept_minutes at most a year", 1<<16)
	}
	d := c.Spool
	if d.SizeMB < 0 || d.SizeMB > 1<<24 || d.SizePerUIDMB < 0 || d.SizePerUIDMB > max(d.SizeMB, 8192) || d.FreeMB < 0 || d.FreeMB > 1<<24 {
		f.errorf("spool: size_mb must be at most %d, size_per_uid_mb at most size_mb, free_mb at most %d", 1<<24, 1<<24)
	}
	j := c.Jobs
	if j.Waiting < 0 || j.Waiting > 1<<16 || j.WaitingPerUID < 0 || j.WaitingPerUID > max(j.Waiting, 1024) || j.Kept < 0 || j.Kept > 1<<20 || j.KeptDays < 0 || j.KeptDays > 3650 || j.SizeMB < 0 || j.SizeMB > 1<<16 {
		f.errorf("jobs: waiting must be at most %d, waiting_per_uid at most waiting, kept at most %d, kept_days at most 3650, size_mb at most %d", 1<<16, 1<<20, 1<<16)
	}
}

// unitTime is RuntimeMaxSec of anchorhold-worker@.service.
const unitTime = 65 * time.Minute

func (c Config) checkFederation(f *Findings) {
	w := c.Workers
	if w.Path != "" && w.Socket != "" {
		f.errorf("workers: give path or socket, not both")
	}
	if w.Count < 0 || w.Count > 64 || w.MemoryMB < 0 || w.MemoryMB != 0 && w.MemoryMB < 64 || w.TimeSeconds < 0 {
		f.errorf("workers: count must be from 1 to 64, memory_mb at least 64, time_seconds positive")
	}
	if w.Socket != "" && c.WorkerTime() > unitTime {
		f.noticef("workers.time_seconds: %d is more than the %.0f s that anchorhold-worker@.service gives a worker: raise RuntimeMaxSec in a drop-in, to a little more", w.TimeSeconds, unitTime.Seconds())
	}
	if !c.Participates() {
		if g := c.Federation; g.ServerName+g.TLSRoots+g.Membership != "" || g.QueueKey != "" && !c.Proves() {
			f.errorf("federation.aggregators is missing")
		}
		return
	}
	for i, a := range c.Federation.Aggregators {
		if _, _, err := net.SplitHostPort(a); err != nil {
			f.errorf("federation.aggregators[%d]: %v; want host:port", i, err)
		}
	}
	if c.Federation.TLSRoots == "" {
		f.Missing = append(f.Missing, "federation.tls_roots")
	}
	if len(c.Models) == 0 && len(c.Classifiers) == 0 && c.Federation.Membership == "" { // secrets give no role
		f.errorf("federation.membership: an agent without a model needs a resource whose release makes it a participant")
	}
	if c.Federation.QueueKey == "" {
		f.noticef("federation.queue_key: not set; jobs are lost when the agent stops")
	}
}

// Print writes the findings for people and returns the exit code of a check.
func (f Findings) Print(w io.Writer, path string) int {
	for _, e := range f.Errors {
		fmt.Fprintf(w, "error: %s\n", e)
	}
	for _, n := range f.Notices {
		fmt.Fprintf(w, "notice: %s\n", n)
	}
	for _, h := range f.Handed {
		fmt.Fprintf(w, "handed on: %s\n", h)
	}
	switch {
	case len(f.Errors) > 0:
		return 2
	case len(f.Missing) > 0:
		fmt.Fprintf(w, "%s is valid as far as it goes; to run the agent it still needs: %s\n", path, strings.Join(f.Missing, ", "))
		return 2
	}
	fmt.Fprintf(w, "%s is valid\n", path)
	return 0
}
