package settings

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/systemd/listen"
)

const whole = `transport:
  tls: {version: "1.3", key_exchange: hybrid, classical: X25519, post_quantum: ML_KEM_768, enforce_pqc_first: true, fallback_policy: reject}
compute:
  tee: {provider: amd_sev_snp, attestation_ttl_seconds: 600, memory_limit_mb: 128, measurement_whitelist: []}
aggregation: {scheme: CKKS, library: Lattigo, polynomial_modulus_degree: 16384, coefficient_modulus: [60, 40, 40, 60], scale: 2^40, noise_budget_threshold: 30}
verification:
  zkp: {scheme: zkSNARK, prover_mode: async, worker_pool_size: 4, verification_timeout_ms: 50}
broker: {address: "broker:8443", tls_roots: tls.crt, root_keys: [root.pub], minimum_epoch: 1}
guest: {image_id: image-7, state_dir: /var/lib/anchorhold/agent}
models:
  - {name: demo, path: demo.ahm, resource: models/demo, publisher: publisher.pub}
socket: {path: /run/anchorhold/agent.sock}
log: {level: info, format: json}
`

func TestWholeConfigurationIsRunnable(t *testing.T) {
	cfg, findings, err := Parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	if err := findings.Runnable(); err != nil || len(findings.Notices) != 0 {
		t.Fatalf("%v, notices %q", err, findings.Notices)
	}
	if cfg.Lease() != 10*time.Minute || cfg.MemoryLimit() != 128<<20 {
		t.Errorf("lease %s, limit %d", cfg.Lease(), cfg.MemoryLimit())
	}
	var out bytes.Buffer
	if code := findings.Print(&out, "x.yaml"); code != 0 || !strings.Contains(out.String(), "valid") {
		t.Errorf("%d: %s", code, out.String())
	}
}

// A unit that ends workers before their own time is no reason to refuse a configuration,
// and one to say so.
func TestTimeBeyondTheWorkersUnitIsNoticed(t *testing.T) {
	for text, want := range map[string]bool{
		"workers: {socket: /run/worker.sock}":                             false,
		"workers: {socket: /run/worker.sock, time_seconds: 3900}":         false,
		"workers: {socket: /run/worker.sock, time_seconds: 3901}":         true,
		"workers: {path: /usr/bin/anchorhold-worker, time_seconds: 9000}": false,
	} {
		_, findings, err := Parse([]byte(whole + text + "\n"))
		if err != nil || len(findings.Errors) != 0 {
			t.Fatal(err, findings.Errors)
		}
		if got := strings.Contains(strings.Join(findings.Notices, "\n"), "RuntimeMaxSec"); got != want {
			t.Errorf("%s: notices %q", text, findings.Notices)
		}
	}
}

// TestEachCheckRefusesAlone changes one value at a time.
func TestEachCheckRefusesAlone(t *testing.T) {
	for name, change := range map[string][2]string{
		"socket.path: a socket's path has at most 107 bytes, this one has 108": {`/run/anchorhold/agent.sock`, "/" + strings.Repeat("x", 107)},
		"broker.address":                           {`address: "broker:8443"`, `address: "broker"`},
		"socket.limits":                            {`socket: {path: /run/anchorhold/agent.sock}`, `socket: {path: /run/anchorhold/agent.sock, limits: {per_source: -1}}`},
		"transport.tls.version":                    {`version: "1.3"`, `version: "1.2"`},
		"transport.tls.key_exchange":               {`key_exchange: hybrid`, `key_exchange: classical`},
		"transport.tls.classical":                  {`classical: X25519`, `classical: X448`},
		"transport.tls.post_quantum":               {`ML_KEM_768`, `ML_KEM_512`},
		"transport.tls.fallback_policy":            {`fallback_policy: reject`, `fallback_policy: allow`},
		"transport.tls.enforce_pqc_first":          {`enforce_pqc_first: true`, `enforce_pqc_first: false`},
		"compute.tee.provider":                     {`amd_sev_snp`, `arm_cca`},
		"compute.tee.provider: \"intel_sgx\"":      {`amd_sev_snp`, `intel_sgx`},
		"compute.tee.attestation_ttl_seconds":      {`attestation_ttl_seconds: 600`, `attestation_ttl_seconds: 299`},
		"compute.tee.attestation_ttl_seconds: 901": {`attestation_ttl_seconds: 600`, `attestation_ttl_seconds: 901`},
		"compute.tee.memory_limit_mb":              {`memory_limit_mb: 128`, `memory_limit_mb: 31`},
		"compute.tee.measurement_whitelist":        {`measurement_whitelist: []`, `measurement_whitelist: ["sha384:abcd"]`},
		"aggregation.scheme":                       {`scheme: CKKS`, `scheme: BFV`},
		"aggregation.library":                      {`library: Lattigo`, `library: HElib`},
		"aggregation: no parameter set has polynomial_modulus_degree 16000":                                                   {`polynomial_modulus_degree: 16384`, `polynomial_modulus_degree: 16000`},
		"aggregation: no parameter set has polynomial_modulus_degree 4096":                                                    {`polynomial_modulus_degree: 16384`, `polynomial_modulus_degree: 4096`},
		"aggregation: no parameter set has polynomial_modulus_degree 16384, coefficient_modulus [61 40]":                      {`[60, 40, 40, 60]`, `[61, 40]`},
		"aggregation: no parameter set has polynomial_modulus_degree 16384, coefficient_modulus [60 40 40 60] and scale 2^60": {`2^40`, `2^60`},
		"aggregation.noise_budget_threshold":                                                                                  {`noise_budget_threshold: 30`, `noise_budget_threshold: 201`},
		"socket.memory_mb":                                                                                                    {`agent.sock}`, `agent.sock, memory_mb: 3}`},
		"socket.memory_mb: 7":                                                                                                 {`agent.sock}`, `agent.sock, memory_mb: 7, max_body_bytes: 2000000}`},
		"socket: queue":                                                                                                       {`agent.sock}`, `agent.sock, queue: -1}`},
		"jobs: waiting":                                                                                                       {`agent.sock}`, "agent.sock}\njobs: {waiting: 65537}"},
		"jobs: waiting must be":                                                                                               {`agent.sock}`, "agent.sock}\njobs: {waiting: 10, waiting_per_uid: 1025}"},
		"jobs: waiting must be at most":                                                                                       {`agent.sock}`, "agent.sock}\njobs: {kept_days: -1}"},
		"spool: size_mb":                                                                                                      {`agent.sock}`, "agent.sock}\nspool: {size_mb: 100, size_per_uid_mb: 8193}"},
		"spool: size_mb must be":                                                                                              {`agent.sock}`, "agent.sock}\nspool: {free_mb: -1}"},
		"receipts: kept":                                                                                                      {`agent.sock}`, "agent.sock}\nreceipts: {kept: 65537}"},
		"receipts: kept must be":                                                                                              {`agent.sock}`, "agent.sock}\nreceipts: {kept: 100, kept_per_uid: 513}"},
		`verification.zkp.scheme: "" is refused`:                                                                              {`scheme: zkSNARK, `, ``},
		"verification.zkp.scheme":                                                                                             {`scheme: zkSNARK`, `scheme: zkSTARK`},
		"verification.zkp.prover_mode":                                                                                        {`prover_mode: async`, `prover_mode: sync`},
		"verification.zkp.worker_pool_size":                                                                                   {`worker_pool_size: 4`, `worker_pool_size: 257`},
		"verification.zkp.verification_timeout_ms":                                                                            {`verification_timeout_ms: 50`, `verification_timeout_ms: 0`},
		"guest.software_measurement":                                                                                          {`image_id: image-7`, `image_id: image-7, software_measurement: "aa"`},
		"models[0].resource":                                                                                                  {`resource: models/demo, `, ``},
		"models[0].mode":                                                                                                      {`publisher: publisher.pub`, `publisher: publisher.pub, mode: lazy`},
		"models[0].cache":                                                                                                     {`publisher: publisher.pub`, `publisher: publisher.pub, cache: q4`},
		"models[0].kernel":                                                                                                    {`publisher: publisher.pub`, `publisher: publisher.pub, kernel: mmx`},
		"models[0]: context":                                                                                                  {`publisher: publisher.pub`, `publisher: publisher.pub, context: -1`},
		"log.level":                                                                                                           {`level: info`, `level: loud`},
		"log.format":                                                                                                          {`format: json`, `format: xml`},
	} {
		text := strings.Replace(whole, change[0], change[1], 1)
		if text == whole {
			t.Fatalf("%s: %q is not in the configuration", name, change[0])
		}
		_, findings, err := Parse([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(findings.Errors) != 1 || !strings.HasPrefix(findings.Errors[0], name) {
			t.Errorf("%s: %q", name, findings.Errors)
		}
		if findings.Runnable() == nil {
			t.Errorf("%s: runnable", name)
		}
	}
}

// TestAnAggregationWithoutASchemeIsNotPassedOver: its set and its bits would be demanded of no round.
func TestAnAggregationWithoutASchemeIsNotPassedOver(t *testing.T) {
	for _, section := range []string{"{polynomial_modulus_degree: 16384, coefficient_modulus: [60, 40, 40, 60], scale: 2^40, noise_budget_threshold: 30}", "{noise_budget_threshold: 30}", "{coefficient_modulus: [60]}", "{scale: 2^40}"} {
		cfg, findings, err := Parse([]byte("aggregation: " + section + "\n"))
		if err != nil || !cfg.Aggregation.Stated() || len(findings.Errors) == 0 || !strings.HasPrefix(findings.Errors[0], `aggregation.scheme: "" is refused`) {
			t.Errorf("%s: %q, %v", section, findings.Errors, err)
		}
	}
	if cfg, findings, err := Parse([]byte("log: {level: info}\n")); err != nil || cfg.Aggregation.Stated() || len(findings.Errors) != 0 {
		t.Errorf("%q, %v", findings.Errors, err)
	}
}

func TestMissingPartsAreNamed(t *testing.T) {
	for _, line := range []string{"broker: ", "guest: ", "models:\n  - "} {
		at := strings.Index(whole, line)
		end := at + len(line) + strings.Index(whole[at+len(line):], "\n") + 1
		_, findings, err := Parse([]byte(whole[:at] + whole[end:]))
		if err != nil {
			t.Fatal(err)
		}
		if len(findings.Missing) == 0 || findings.Runnable() == nil {
			t.Errorf("without %q nothing is missing", line)
		}
		var out bytes.Buffer
		if code := findings.Print(&out, "x.yaml"); code != 2 || !strings.Contains(out.String(), "still needs") {
			t.Errorf("%d: %s", code, out.String())
		}
	}
	if _, _, err := Parse([]byte(strings.Replace(whole, "tls_roots", "tls_rots", 1))); err == nil || !strings.Contains(err.Error(), "line") {
		t.Errorf("an unknown key: %v", err)
	}
}

// TestTemplateOfTheStackLoads reads the template of docs/architecture.md as users get it: one
// error for its placeholder digests, one notice about its library.
func TestTemplateOfTheStackLoads(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, template, begins := strings.Cut(string(page), "\n```yaml\ntransport:\n")
	template, _, ends := strings.Cut(template, "\n```\n")
	if !begins || !ends {
		t.Fatal("docs/architecture.md has no template")
	}
	data := []byte("transport:\n" + template)
	_, findings, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(findings.Errors) != 1 || !strings.Contains(findings.Errors[0], "measurement_whitelist") || len(findings.Notices) != 1 || !strings.Contains(findings.Notices[0], "OpenFHE") {
		t.Errorf("errors %q, notices %q", findings.Errors, findings.Notices)
	}
	good := strings.NewReplacer("sha256:a1b2c3d4e5f6...", "sha256:"+strings.Repeat("ab", 32), "sha256:f6e5d4c3b2a1...", "sha384:"+strings.Repeat("cd", 48)).Replace(string(data))
	if _, findings, err = Parse([]byte(good)); err != nil || len(findings.Errors) != 0 || len(findings.Notices) != 1 {
		t.Errorf("with digests: %v, errors %q, notices %q", err, findings.Errors, findings.Notices)
	}
}

func TestMeasurementsHaveOneSpelling(t *testing.T) {
	for _, bad := range []string{"", "sha256", "sha512:" + strings.Repeat("a", 128), "sha256:" + strings.Repeat("A", 64), "sha384:" + strings.Repeat("a", 64), "sha256:" + strings.Repeat("g", 64)} {
		if _, _, err := ParseMeasurement(bad); err == nil {
			t.Errorf("%q is a measurement", bad)
		}
	}
	plain := strings.Repeat("ab", 48)
	for _, s := range []string{plain, "sha384:" + plain} {
		if algorithm, digest, err := ParseMeasurement(s); err != nil || algorithm != "sha384" || hex.EncodeToString(digest) != plain {
			t.Errorf("%s: %s %x %v", s, algorithm, digest, err)
		}
	}
}

func TestReadAndIdentity(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	if err := os.WriteFile(path, []byte(whole), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path); err != nil {
		t.Error(err)
	}
	if _, _, err := Read(filepath.Join(dir, "absent")); err == nil {
		t.Error("an absent file was read")
	}
	if err := os.WriteFile(path, make([]byte, maxConfigBytes+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Read(path); err == nil {
		t.Error("a large file was read")
	}
	k, err := identity.Generate(identity.LevelEpoch)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Wipe()
	pub := filepath.Join(dir, "publisher.pub")
	if err := idfile.WritePublic(pub, k.Public()); err != nil {
		t.Fatal(err)
	}
	text, err := k.Public().MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{pub, string(text)} {
		if got, err := Identity(value); err != nil || !got.Equal(k.Public()) {
			t.Errorf("%.20s: %v", value, err)
		}
	}
	if _, err := Identity("ahpub1broken"); err == nil {
		t.Error("a broken identity was read")
	}
}

// What the agent's client would refuse when it starts is an error of the file.
func TestCheckRefusesWhatTheClientWould(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"broker.address: \":8443\"":            func(c *Config) { c.Broker.Address = ":8443" },
		"broker.address: \"b.example:99999\"":  func(c *Config) { c.Broker.Address = "b.example:99999" },
		"broker.address: \"b.example:0\"":      func(c *Config) { c.Broker.Address = "b.example:0" },
		"broker.address: \"b.example:https\"":  func(c *Config) { c.Broker.Address = "b.example:https" },
		"guest.image_id: \"a b\\x1b[31m\"":     func(c *Config) { c.Guest.ImageID = "a b\x1b[31m" },
		"guest.image_id: \"" + longName + "\"": func(c *Config) { c.Guest.ImageID = longName },
		"guest.tenant: \"ü\"":                  func(c *Config) { c.Guest.Tenant = "ü" },
		"":                                     func(*Config) {},
	} {
		var c Config
		c.Broker.Address, c.Guest.ImageID, c.Guest.Tenant = "[::1]:8443", longName[1:], "a"
		change(&c)
		var f Findings
		c.checkBroker(&f)
		if text := strings.Join(f.Errors, "; "); (text == "") != (field == "") || !strings.HasPrefix(text, field) {
			t.Errorf("%s: %q", field, text)
		}
	}
}

var longName = strings.Repeat("n", 129)

// TestSeveralModelsSayWhatTheyTake: names and parts of the memory, each alone.
func TestSeveralModelsSayWhatTheyTake(t *testing.T) {
	model := func(name string, mb int) Model {
		return Model{Name: name, Path: "/p", Resource: "models/" + name, Publisher: "p", MemoryMB: mb}
	}
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"two":            {Config{Models: []Model{model("a", 0), model("b", 9)}}, ""},
		"a name twice":   {Config{Models: []Model{model("a", 0), model("a", 9)}}, `models[1].name: "a" is used twice`},
		"two open parts": {Config{Models: []Model{model("a", 0), model("b", 9), model("c", 0)}}, ""},
		"less than none": {Config{Models: []Model{model("a", -1)}}, "models[0].memory_mb: -1 is outside"},
		"nine":           {Config{Models: []Model{model("a", 1), model("b", 1), model("c", 1), model("d", 1), model("e", 1), model("f", 1), model("g", 1), model("h", 1), model("i", 1)}}, "models: got 9 models; an agent serves at most 8"},
		"kept keys":      {Config{Models: []Model{model("a", 0), model("b", 9)}, LocalRestart: LocalRestart{Seal: SealTPM}}, "local_restart: it keeps the key of one model"},
	} {
		var f Findings
		c.cfg.checkModels(&f)
		if c.want == "" && len(f.Errors) > 0 || c.want != "" && !strings.HasPrefix(strings.Join(f.Errors, "\n"), c.want) {
			t.Errorf("%s: %q, want %q", name, f.Errors, c.want)
		}
	}
	if n := (Config{Models: []Model{{}, {Sequences: 3}}}).Sequences(); n != 4 {
		t.Errorf("%d requests run at a time", n)
	}
}

// TestConnectionsFollowTheMemoryLimit: what the configuration leaves open follows what it says, and what it says above the
// default takes memory.
func TestConnectionsFollowTheMemoryLimit(t *testing.T) {
	for name, c := range map[string]struct {
		mib                      int
		set                      listen.Limits
		all, unproven, perSource int
		memory                   int64
	}{
		"small":           {24, listen.Limits{}, 16, 16, 14, 0},
		"the unit's":      {128, listen.Limits{}, 64, 64, 56, 0},
		"large":           {4096, listen.Limits{}, 256, 256, 224, 0},
		"more":            {128, listen.Limits{Connections: 512}, 512, 512, 448, 448 * 20 << 10},
		"fewer":           {128, listen.Limits{Connections: 8}, 8, 8, 7, 0},
		"one":             {128, listen.Limits{Connections: 1}, 1, 1, 1, 0},
		"fewer of a user": {128, listen.Limits{PerSource: 4}, 64, 64, 4, 0},
	} {
		var cfg Config
		cfg.Compute.TEE.MemoryLimitMB, cfg.Socket.Limits = c.mib, c.set
		l := cfg.ConnectionLimits()
		if l.Connections != c.all || l.Unproven != c.unproven || l.PerSource != c.perSource || l.HeaderSeconds != 5 {
			t.Errorf("%s: %+v", name, l)
		}
		if got := cfg.ConnectionMemory(); got != c.memory {
			t.Errorf("%s: %d bytes, want %d", name, got, c.memory)
		}
	}
}
