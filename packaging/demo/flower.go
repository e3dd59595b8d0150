package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// flowerRunLimit bounds one flwr run: every message starts a process that makes an
// environment of its own.
const flowerRunLimit = 30 * time.Minute

// flowerDemo runs a real SuperLink and two SuperNodes on top of a deployment, and searches
// what the SuperNodes sent for what they must not send.
type flowerDemo struct {
	deployment
	peers, wheels string
	link          *daemon
	nodes         []*daemon
	lines         []*cutter // from each SuperNode to the SuperLink
	linkAddress   string
	private       []secretVector // what the clients learned, in any run
	controls      map[string]int // kinds of message, with how often the search found them in the control
	guarded       [][]byte       // what was carried while the clients were protected
}

func newFlowerDemo(opt options, peers, wheels string) *flowerDemo {
	return &flowerDemo{deployment: deployment{demo: *newDemo(opt), participants: 2, minimum: 2, memory: 64, guestExtra: func(int) string { return "" }},
		peers: absolute(peers), wheels: absolute(wheels), controls: map[string]int{}}
}

func (d *flowerDemo) run(ctx context.Context) (err error) {
	fmt.Println("Anchorhold under Flower: flwr run with both client APIs; no update reaches the SuperLink outside a round.")
	fmt.Println("THE SOFTWARE TEE STANDS IN FOR THE HARDWARE HERE: these binaries prove nothing to anyone but this demo.")
	if d.dir, err = os.MkdirTemp("", "anchorhold-flower-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.cleanUpFlower()) }()
	return runSteps(ctx, d.began, []step{
		{"Flower and the package's wheel", d.findFlower},
		{"identities; a software TEE for each guest", d.makeParties},
		{"broker", d.startFedBroker},
		{"policy, membership key", d.importFedPolicy},
		{"aggregator", d.startAggregator},
		{"guests attested", d.startGuests},
		{"SuperLink and two SuperNodes, in subprocess isolation", d.startFlower},
		{"flwr run, Message API", d.train("message", "message_server:app")},
		{"flwr run, NumPyClient", d.train("legacy", "legacy_server:app")},
		{"every message type, to protected clients of the Message API", d.probe("message", true)},
		{"every message type, to protected NumPyClients", d.probe("legacy", true)},
		{"CONTROL: the same clients of the Message API without protection", d.probe("message", false)},
		{"CONTROL: the same NumPyClients without protection", d.probe("legacy", false)},
		{"the record of everything the SuperNodes sent", d.search},
		{"REFUSAL: a server that is not allowed to operate the broker", d.refuseOperator},
	})
}

func (d *flowerDemo) cleanUpFlower() error {
	var errs []error
	for _, p := range append(slices.Clone(d.nodes), d.link) {
		if p == nil {
			continue
		}
		errs = append(errs, p.stop())
		// The process's group is ours too: Flower's own children watch for its end, seconds late.
		if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	for _, l := range d.lines {
		errs = append(errs, l.close())
	}
	return errors.Join(append(errs, d.cleanUp())...)
}

func (d *flowerDemo) python() string { return filepath.Join(d.peers, "fed", "bin", "python") }

// findFlower checks that the package is nowhere but in its wheel: Flower's environments get
// it from there or not at all.
func (d *flowerDemo) findFlower(ctx context.Context) (string, error) {
	version, err := command(ctx, d.python(), "-c", "import flwr, importlib.metadata as m; print(m.version('flwr'))")
	if err != nil {
		return "", fmt.Errorf("%w (make flower-demo installs Flower)", err)
	}
	if out, err := command(ctx, d.python(), "-c", "import anchorhold_fed"); err == nil {
		return "", fmt.Errorf("the package is already installed beside Flower, so its wheel proves nothing: %s", out)
	}
	found, err := filepath.Glob(filepath.Join(d.wheels, "anchorhold_fed-*.whl"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%s holds %d wheels of the package, not one: .ci/python-package makes it", d.wheels, len(found))
	}
	return fmt.Sprintf("flwr %s, without our package; %s, for the environments that Flower makes", strings.TrimSpace(string(version)), filepath.Base(found[0])), nil
}

// flowerEnv is the environment of one of Flower's processes, with a home of its own: two
// SuperNodes of one home make and remove the same environments. Nothing is fetched.
func (d *flowerDemo) flowerEnv(name string) []string {
	return []string{
		"PATH=" + filepath.Join(d.peers, "fed", "bin") + ":" + os.Getenv("PATH"), "FLWR_HOME=" + d.path("flwr-"+name), "PYTHONPATH=",
		"FLWR_TELEMETRY_ENABLED=0", "FLWR_DISABLE_UPDATE_CHECK=1", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL=0.2",
		"UV_OFFLINE=1", "UV_NO_INDEX=1", "UV_FIND_LINKS=" + d.wheels, "UV_CACHE_DIR=" + d.path("uv"),
	}
}

func (d *flowerDemo) flower(name, program string, args ...string) (*daemon, error) {
	if err := os.MkdirAll(d.path("flwr-"+name), 0o700); err != nil {
		return nil, err
	}
	return start(d.dir, name, d.flowerEnv(name), filepath.Join(d.peers, "fed", "bin", program), args...)
}

func (d *flowerDemo) startFlower(ctx context.Context) (_ string, err error) {
	if d.linkAddress, err = freePort(); err != nil {
		return "", err
	}
	host, port, _ := strings.Cut(d.linkAddress, ":")
	if d.link, err = d.flower("superlink", "flower-superlink", "--insecure", "--host", host, "--port", port, "--isolation", "subprocess"); err != nil {
		return "", err
	}
	if err := d.link.waitFor(ctx, "answer on its port", 3*time.Minute, func() bool { return listens(d.linkAddress) }); err != nil {
		return "", err
	}
	if err := os.Mkdir(d.path("evidence"), 0o700); err != nil {
		return "", err
	}
	for i := range d.participants {
		line, err := newRecorder(d.linkAddress)
		if err != nil {
			return "", err
		}
		d.lines = append(d.lines, line)
		config := fmt.Sprintf("partition-id = %d\nevidence = %q\nanchorhold-socket = %q\nanchorhold-metrics = \"loss=0:1000:0.1\"\nanchorhold-timeout = 300\n", i, d.path("evidence"), d.socket(i))
		file := d.path(fmt.Sprintf("node%d.toml", i))
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return "", err
		}
		address, err := freePort()
		if err != nil {
			return "", err
		}
		_, port, _ := strings.Cut(address, ":")
		node, err := d.flower(fmt.Sprintf("supernode%d", i), "flower-supernode", "--insecure", "--superlink", line.address(), "--host", "127.0.0.1", "--port", port,
			"--isolation", "subprocess", "--allow-runtime-dependency-installation", "--node-config", file)
		if err != nil {
			return "", err
		}
		d.nodes = append(d.nodes, node)
	}
	for _, n := range d.nodes {
		if err := n.waitFor(ctx, "SuperNode's number", 3*time.Minute, func() bool { return n.log.line("SuperNode ID") != "" }); err != nil {
			return "", err
		}
	}
	config := fmt.Sprintf("[superlink]\ndefault = \"demo\"\n\n[superlink.demo]\naddress = %q\ninsecure = true\n", d.linkAddress)
	if err := os.MkdirAll(d.path("flwr-cli"), 0o700); err != nil {
		return "", err
	}
	return "each SuperNode reaches the SuperLink over a line that keeps a copy of what it sends", os.WriteFile(d.path("flwr-cli", "config.toml"), []byte(config), 0o600)
}

// flwrRun runs the app with one of its servers and one of its clients, and returns what
// flwr run printed.
func (d *flowerDemo) flwrRun(ctx context.Context, server, client string, config ...string) (string, error) {
	app, err := os.MkdirTemp(d.dir, "app-")
	if err != nil {
		return "", err
	}
	source := filepath.Join("packaging", "python", "app")
	project, err := os.ReadFile(filepath.Join(source, "pyproject.toml"))
	if err != nil {
		return "", err
	}
	named := strings.NewReplacer("round_app.message_server:app", "round_app."+server, "round_app.protected:message", "round_app."+client).Replace(string(project))
	if err := errors.Join(os.CopyFS(app, os.DirFS(source)), os.Remove(filepath.Join(app, "pyproject.toml")), os.WriteFile(filepath.Join(app, "pyproject.toml"), []byte(named), 0o600)); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, flowerRunLimit)
	defer cancel()
	config = append(config, fmt.Sprintf("broker=%q aggregator=%q decryptor=%q program=%q policy=%q", d.path("operator.sock"), d.path("admin.sock"), d.socket(d.decryptor()),
		filepath.Join(absolute(d.opt.bin), "anchorhold"), d.policy))
	var out, complaint bytes.Buffer
	if _, err := outputIn(ctx, d.flowerEnv("cli"), &out, &complaint, filepath.Join(d.peers, "fed", "bin", "flwr"), "run", app, "demo", "--stream", "--run-config", strings.Join(config, " ")); err != nil {
		return "", fmt.Errorf("%w\n%s\nthe end of the SuperLink's log:\n%s\nof a SuperNode's log:\n%s", err, out.String(), d.link.log, d.nodes[0].log)
	}
	return out.String(), nil
}

// colour is what Flower's log puts around its levels.
var colour = regexp.MustCompile("\x1b\\[[0-9;]*m")

// transcript picks the lines that tell a run.
func transcript(out string, words ...string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			b.WriteString(strings.TrimSpace(colour.ReplaceAllString(line, "")) + "\n")
		}
	}
	return strings.TrimSpace(b.String())
}

// train is a step: federated averaging by one of the APIs.
func (d *flowerDemo) train(api, server string) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		out, err := d.flwrRun(ctx, server, "protected:"+api)
		if err != nil {
			return "", err
		}
		said := transcript(out, "Successfully started", "Installed:", "TRAINED", "EVALUATED")
		want := map[string][]string{"message": {"TRAINED contributions=[2, 2]"}, "legacy": {"TRAINED round=1 contributions=2 failures=0", "TRAINED round=2 contributions=2 failures=0", "EVALUATED round=2 loss="}}[api]
		for _, w := range want {
			if !strings.Contains(said, w) || strings.Contains(said, "loss=None") || strings.Contains(said, "loss=[]") {
				return "", fmt.Errorf("the run did not print %q:\n%s\nthe end of a SuperNode's log:\n%s", w, out, d.nodes[0].log)
			}
		}
		d.carry()
		return said, d.gather()
	}
}

// carry moves what the lines kept into what is to hold nothing private.
func (d *flowerDemo) carry() {
	for _, l := range d.lines {
		d.guarded = append(d.guarded, l.carried()...)
	}
}

// refuseOperator has the package open a round as a user whom the broker does not name.
func (d *flowerDemo) refuseOperator(ctx context.Context) (string, error) {
	site := d.path("site")
	if _, err := command(ctx, d.python(), "-m", "pip", "--disable-pip-version-check", "-q", "install", "--no-deps", "--no-index", "--find-links", d.wheels, "--target", site, "anchorhold-fed"); err != nil {
		return "", err
	}
	const open = `
import sys
from anchorhold_fed import Operator, Refused
try:
    Operator(sys.argv[1], [sys.argv[2]], program=sys.argv[3]).open_round(model="m", length=10, clip_l2=1.0, contributor_policy=sys.argv[4], decryptor_policy=sys.argv[4])
except Refused as e:
    sys.exit(f"anchorhold: refused: {e.code}")
`
	viewer, err := d.viewersSocket(ctx)
	if err != nil {
		return "", err
	}
	_, err = outputIn(ctx, []string{"PYTHONPATH=" + site}, new(bytes.Buffer), new(bytes.Buffer), d.python(), "-c", open, viewer, d.path("admin.sock"), filepath.Join(absolute(d.opt.bin), "anchorhold"), d.policy)
	return refused(err, "not-authorised")
}

// viewersSocket restarts the broker so that this user may look and not change things.
func (d *flowerDemo) viewersSocket(ctx context.Context) (string, error) {
	if err := d.broker.stop(); err != nil {
		return "", err
	}
	config, err := os.ReadFile(d.path("broker.yaml"))
	if err != nil {
		return "", err
	}
	viewers := fmt.Sprintf("operator: {operator_uids: [%d], viewer_uids: [%d], socket: ", os.Getuid()+1, os.Getuid())
	if err := os.WriteFile(d.path("broker.yaml"), bytes.Replace(config, []byte("operator: {socket: "), []byte(viewers), 1), 0o600); err != nil {
		return "", err
	}
	if d.broker, err = start(d.dir, "broker", []string{"CREDENTIALS_DIRECTORY=" + d.path("credentials")}, filepath.Join(d.opt.bin, "anchorhold-broker"), "run", "--config", d.path("broker.yaml")); err != nil {
		return "", err
	}
	return d.path("operator.sock"), d.broker.waitFor(ctx, "operator socket", 20*time.Second, func() bool {
		_, err := d.tool(ctx, "fed", "round", "status", "--json", "--broker", d.path("operator.sock"))
		return err == nil
	})
}
