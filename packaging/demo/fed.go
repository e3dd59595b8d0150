package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/packaging/softpolicy"
)

// The federated demo: eight participants train scikit-learn's digits, a ninth guest
// decrypts.
const (
	plainRounds  = 5
	clipL2       = 3.0
	digitsLength = 2410 // values of the model, as digits.py says
	privateRound = 10.0 // epsilon of the round with noise
	workerMB     = 256
	fedMeasure   = "c3"
	decMeasure   = "3c"
	fedPolicy    = `format: 2
id: fed-demo
version: 1
not_before: "2020-01-01T00:00:00Z"
not_after: "2099-01-01T00:00:00Z"
attestation_ttl_seconds: 300
allow_software_tee: true
require:
  kinds: [sev-snp]
  reference_values: [demo/*]
` + softpolicy.RequireSNP + `  image_ids: [participant-image, decryptor-image]
  memory_limit: {min_mib: 32, max_mib: 128}
rules:
  - resources: [members/*, models/*]
    roles: [serve, contribute, party]
  - resources: [decryptors/*]
    roles: [decrypt]
    require: {image_ids: [decryptor-image], reference_values: [demo/decryptor]}
  - resources: [fed/*]
    roles: [decrypt]
    require: {image_ids: [decryptor-image], reference_values: [demo/decryptor]}
waive:
` + softpolicy.WaiveSNP + `  - {check: agent-build, reason: the demo runs whatever was just built}
  - {check: tenant, reason: the demo has no tenants}
`
)

// deployment is broker, aggregator, participants' guests and one guest that decrypts.
type deployment struct {
	demo
	participants    int
	minimum         int // cohort
	aggregator      *daemon
	aggregatorExtra string             // of its configuration
	guestExtra      func(i int) string // of a guest's
	memory          int                // of a guest's arena, in MiB
	address         string             // the aggregator's
	cutter          *cutter
	guests          []*daemon
	rounds          []string // ids, in their order
	policy          string   // digest of the one that judges the guests
}

// decryptor is the index of the decrypting guest.
func (d *deployment) decryptor() int { return d.participants }

// fedDemo is the federated demo on top of the parts of the other.
type fedDemo struct {
	deployment
	python string
	sent   float64 // bytes of one contribution
}

func newFedDemo(opt options, python string) *fedDemo {
	return &fedDemo{deployment: deployment{demo: *newDemo(opt), participants: 8, minimum: 6, memory: 64, guestExtra: func(int) string { return "" }}, python: python}
}

func (d *fedDemo) run(ctx context.Context) (err error) {
	fmt.Println("Anchorhold federated demo: eight participants train one model; nobody sees another's update.")
	fmt.Println("THE SOFTWARE TEE STANDS IN FOR THE HARDWARE HERE: these binaries prove nothing to anyone but this demo.")
	if d.dir, err = os.MkdirTemp("", "anchorhold-fed-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUp()) }()
	return runSteps(ctx, d.began, []step{
		{"training task", d.findTask},
		{"identities; a software TEE for each guest", d.makeParties},
		{"broker", d.startFedBroker},
		{"policy, membership key", d.importFedPolicy},
		{"aggregator", d.startAggregator},
		{"guests attested", d.startGuests},
		{fmt.Sprintf("%d rounds without noise, and with the faults of real life", plainRounds), d.train},
		{"REFUSAL 1: a second vector from one participant", d.refuseDuplicate},
		{"REFUSAL 2: a vector beyond the norm bound", d.refuseNorm},
		{"REFUSAL 3: a contribution from an earlier round, sent again", d.refuseReplay},
		{"REFUSAL 4: the key of an open round; a participant that tries to decrypt", d.refuseKeys},
		{"one round without a guest that all trust: two of three participants decrypt", d.decryptTogether},
		{fmt.Sprintf("one round with privacy, epsilon %g", privateRound), d.trainPrivately},
		{"audit log and privacy ledger", d.showLedger},
	})
}

func (d *deployment) cleanUp() error {
	var errs []error
	for _, p := range append(slices.Clone(d.guests), d.aggregator, d.broker) {
		if p != nil {
			errs = append(errs, p.stop())
		}
	}
	if d.cutter != nil {
		errs = append(errs, d.cutter.close())
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

// digits runs the training task and decodes its line of JSON.
func (d *fedDemo) digits(ctx context.Context, into any, args ...string) error {
	out, err := command(ctx, d.python, append([]string{filepath.Join("packaging", "python", "digits.py")}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal(out, into)
}

func (d *fedDemo) findTask(ctx context.Context) (string, error) {
	var made struct {
		Length int `json:"length"`
	}
	if err := d.digits(ctx, &made, "init", "--model", d.path("model.f32")); err != nil {
		return "", fmt.Errorf("%w (make fed-demo installs numpy and scikit-learn for it)", err)
	}
	if made.Length != digitsLength {
		return "", fmt.Errorf("the model has %d values, the demo expects %d", made.Length, digitsLength)
	}
	var plain struct {
		Accuracy float64 `json:"accuracy"`
	}
	if err := d.digits(ctx, &plain, "baseline", "--of", fmt.Sprint(d.participants), "--rounds", fmt.Sprint(plainRounds)); err != nil {
		return "", err
	}
	return fmt.Sprintf("scikit-learn's digits, %d values, non-identical data\nplain federated averaging reaches %.3f after %d rounds: the control", digitsLength, plain.Accuracy, plainRounds), nil
}

func (d *deployment) makeParties(ctx context.Context) (string, error) {
	if err := os.Mkdir(d.path("credentials"), 0o700); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"keygen", "credential", "--out", d.path("credentials", "broker.kek")},
		{"keygen", "broker", "--state", d.path("broker"), "--root", d.path("root.key"), "--host", "127.0.0.1", "--credential-file", d.path("credentials", "broker.kek")},
		{"keygen", "tls", "--out", d.path("aggregator"), "--host", "127.0.0.1"},
		{"keygen", "queue", "--out", d.path("member.key")},
	} {
		if _, err := d.tool(ctx, args...); err != nil {
			return "", err
		}
	}
	var wg sync.WaitGroup
	pems := make([][]byte, d.participants+1)
	errs := make([]error, len(pems))
	for i := range pems {
		wg.Go(func() { pems[i], errs[i] = d.makeTEE(ctx, i) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	return "broker root, aggregator certificate, a processor of its own for each guest", os.WriteFile(d.path("software-tee.pem"), bytes.Join(pems, nil), 0o600)
}

// makeTEE makes one guest's processor and returns its root certificate.
func (d *deployment) makeTEE(ctx context.Context, i int) ([]byte, error) {
	// Its RSA keys take seconds to make and protect nothing: they are kept between
	// runs.
	kept := filepath.Join(d.opt.cache, "software-tees", fmt.Sprint(i))
	pem := filepath.Join(kept, "roots.pem")
	if _, err := os.Stat(pem); err != nil {
		if err := os.MkdirAll(kept, 0o700); err != nil {
			return nil, err
		}
		if _, err := command(ctx, filepath.Join(d.opt.bin, "anchorhold-agent"), "software-tee", "--state", kept, "--roots", pem); err != nil {
			return nil, err
		}
	}
	if err := os.CopyFS(d.guestDir(i), os.DirFS(kept)); err != nil {
		return nil, err
	}
	return os.ReadFile(pem)
}

func (d *deployment) guestDir(i int) string { return d.path(fmt.Sprintf("guest%d", i)) }
func (d *deployment) socket(i int) string   { return d.path(fmt.Sprintf("guest%d.sock", i)) }

func (d *deployment) startFedBroker(ctx context.Context) (string, error) {
	var err error
	if d.brokerAddress, err = freePort(); err != nil {
		return "", err
	}
	config := fmt.Sprintf(`state_dir: %s
listen: %s
unlock: {credential: broker.kek}
operator: {socket: %s}
software_tee_root: %s
rounds:
  privacy:
    max_epsilon: 20
    delta: 0.00001
    minimum_cohort: %d
    without_noise: the demo shows accuracy without noise first
    allow_software_tee: true
%slog: {level: info, format: text}
`, d.path("broker"), d.brokerAddress, d.path("operator.sock"), d.path("software-tee.pem"), d.minimum, d.brokerExtra)
	if err := os.WriteFile(d.path("broker.yaml"), []byte(config), 0o600); err != nil {
		return "", err
	}
	if d.broker, err = start(d.dir, "broker", []string{"CREDENTIALS_DIRECTORY=" + d.path("credentials")}, filepath.Join(d.opt.bin, "anchorhold-broker"), "run", "--config", d.path("broker.yaml")); err != nil {
		return "", err
	}
	err = d.broker.waitFor(ctx, "operator socket", 20*time.Second, func() bool {
		_, err := d.tool(ctx, "epoch", "list", "--broker", d.path("operator.sock"))
		return err == nil
	})
	return fmt.Sprintf("on %s; rounds need a cohort of %d, a model may spend epsilon 20", d.brokerAddress, d.minimum), err
}

func (d *deployment) importFedPolicy(ctx context.Context) (string, error) {
	values := fmt.Sprintf("format: 1\nreference_values:\n  - {id: demo/participant, measurement: %q, software: true, description: participants}\n  - {id: demo/decryptor, measurement: %q, software: true, description: the decrypting guest}\n",
		strings.Repeat(fedMeasure, 48), strings.Repeat(decMeasure, 48))
	if err := errors.Join(os.WriteFile(d.path("values.yaml"), []byte(values), 0o600), os.WriteFile(d.path("policy.yaml"), []byte(fedPolicy), 0o600)); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"policy", "values", "import", d.path("values.yaml")}, {"policy", "import", d.path("policy.yaml")},
		{"secret", "put", "members/demo", "--file", d.path("member.key")}, {"secret", "put", "decryptors/demo", "--file", d.path("member.key")},
	} {
		out, err := d.tool(ctx, append(args, "--json", "--broker", d.path("operator.sock"))...)
		if err != nil {
			return "", err
		}
		var imported struct {
			Digest string `json:"digest"`
		}
		if args[1] == "import" {
			if err := json.Unmarshal(out, &imported); err != nil {
				return "", err
			}
			d.policy = imported.Digest
		}
	}
	return "participants may be members; only the decrypting image may get a round's key", nil
}

func (d *deployment) startAggregator(ctx context.Context) (string, error) {
	var err error
	if d.address, err = freePort(); err != nil {
		return "", err
	}
	config := fmt.Sprintf("state_dir: %s\nlisten: %s\ntls_certificate: %s\ntls_key: %s\nroot_keys: [%s]\nadmin_socket: %s\nworkers: 2\n%s",
		d.path("aggregator"), d.address, d.path("aggregator.crt"), d.path("aggregator.key"), d.path("root.key.pub"), d.path("admin.sock"), d.aggregatorExtra)
	if err := os.WriteFile(d.path("aggregator.yaml"), []byte(config), 0o600); err != nil {
		return "", err
	}
	if d.aggregator, err = start(d.dir, "aggregator", nil, filepath.Join(d.opt.bin, "anchorhold-aggregator"), "run", "--config", d.path("aggregator.yaml")); err != nil {
		return "", err
	}
	if err := d.aggregator.waitFor(ctx, "admin socket", 10*time.Second, func() bool {
		_, err := os.Stat(d.path("admin.sock"))
		return err == nil
	}); err != nil {
		return "", err
	}
	d.cutter, err = newCutter(d.address)
	return fmt.Sprintf("on %s, without any secrets; participant %d reaches it over a line that can fail", d.address, d.participants-1), err
}

func (d *deployment) startGuests(ctx context.Context) (string, error) {
	d.guests = make([]*daemon, d.participants+1)
	for i := range d.guests {
		image, measurement, address, membership := "participant-image", fedMeasure, d.address, "members/demo"
		switch i {
		case d.decryptor():
			image, measurement, membership = "decryptor-image", decMeasure, "decryptors/demo"
		case d.participants - 1:
			address = d.cutter.address()
		}
		config := fmt.Sprintf(`compute:
  tee: {provider: software, attestation_ttl_seconds: 300, memory_limit_mb: %d}
broker: {address: %q, tls_roots: %s, root_keys: [%s], minimum_epoch: 1}
guest: {image_id: %s, state_dir: %s, software_measurement: %q}
federation: {aggregators: [%q], tls_roots: %s, membership: %s}
workers: {path: %s, memory_mb: %d}
socket: {path: %s}
%slog: {level: info, format: text}
`, d.memory, d.brokerAddress, d.path("broker", "tls.crt"), d.path("root.key.pub"), image, d.guestDir(i), strings.Repeat(measurement, 48),
			address, d.path("aggregator.crt"), membership, filepath.Join(absolute(d.opt.bin), "anchorhold-worker"), workerMB, d.socket(i), d.guestExtra(i))
		path := d.path(fmt.Sprintf("guest%d.yaml", i))
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			return "", err
		}
		var err error
		if d.guests[i], err = start(d.dir, fmt.Sprintf("guest %d", i), nil, filepath.Join(d.opt.bin, "anchorhold-agent"), "run", "--config", path); err != nil {
			return "", err
		}
	}
	for i, g := range d.guests {
		if err := g.waitFor(ctx, "lease", 40*time.Second, func() bool {
			out, err := d.tool(ctx, "status", "--json", "--agent", d.socket(i), "--broker", d.path("no-broker.sock"))
			return err == nil && strings.Contains(string(out), `"state": "serving"`)
		}); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d participants and one decrypting guest, each with a lease of its own", d.participants), nil
}

func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	return abs
}
