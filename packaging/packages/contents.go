package packages

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	maintainer = "Anchorhold maintainers <maintainers@anchorhold.example>"
	homepage   = "https://github.com/anchorhold/anchorhold"
	common     = "anchorhold-common"
	copyright  = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Anchorhold
Source: ` + homepage + `

Files: *
Copyright: 2026 The Anchorhold authors
License: Apache-2.0
Comment: The programs are linked statically. THIRD-PARTY-NOTICES.txt.gz beside this file has the
 licences of everything that is linked into them.

License: Apache-2.0
 On Debian systems the text of the licence is in /usr/share/common-licenses/Apache-2.0.
`
)

// pkg is one package.
type pkg struct {
	name, summary, description string
	everywhere                 bool // fits every architecture
	depends                    []string
	files                      []file
	daemon                     *daemon // nil if it has none
	lintian                    string  // overrides, each with its reason
}

// daemon is what the scripts of a package have to know.
type daemon struct {
	state string   // directory below /var/lib/anchorhold
	units []string // which removal stops, sockets first
	lost  string   // what goes with the state
}

// file is a pattern of the release's files and where they go: a directory, with a slash at its
// end, or a file.
type file struct{ from, to string }

// place is where one of the files goes.
func (f file) place(name, format string) string {
	to := f.to
	if format == "rpm" {
		to = strings.Replace(to, "/zsh/vendor-completions/", "/zsh/site-functions/", 1)
	}
	if !strings.HasSuffix(to, "/") {
		return to
	}
	to += strings.TrimSuffix(path.Base(name), ".example")
	if strings.Contains(f.to, "/man/") {
		to += ".gz"
	}
	return to
}

func (f file) mode() fs.FileMode {
	if strings.HasPrefix(f.from, "bin/") {
		return 0o755
	}
	return 0o644
}

const (
	bin   = "/usr/bin/"
	units = "/usr/lib/systemd/system/"
	man1  = "/usr/share/man/man1/"
	man8  = "/usr/share/man/man8/"
)

// Reasons of the overrides.
const (
	static = `# Programs of Go are linked statically, on purpose: a worker may execute its own file alone, and a
# release is the same bytes for every distribution.
%s: statically-linked-binary
`
	otherTree = `# anchorhold-image reads and writes the database of dpkg in the tree of a guest's image, not in the
# system that it runs on.
%s: uses-dpkg-database-directly [usr/bin/anchorhold-image]
`
	systemctl = `# The debhelper's scripts would enable and start units that have no configuration yet. These
# restart what runs, and nothing else.
%s: maintainer-script-calls-systemctl
`
)

// The aggregator is apart from the broker: others may run it, it holds no secret, and a purge of
// the one must not reach the other's state. What several packages need is in anchorhold-common.
var all = []pkg{
	{
		name: common, everywhere: true, summary: "Anchorhold: users, directories and documentation",
		description: "The system users and directories of Anchorhold's daemons, the slice in which\nthey run, and the documents that their units name.",
		depends:     []string{"systemd"},
		files: []file{
			{"systemd/anchorhold.slice", units}, {"systemd/anchorhold.sysusers", "/usr/lib/sysusers.d/anchorhold.conf"},
			{"systemd/anchorhold.tmpfiles", "/usr/lib/tmpfiles.d/anchorhold.conf"}, {"docs/*.md", "/usr/share/doc/anchorhold/"}, {"docs/*.svg", "/usr/share/doc/anchorhold/"},
		},
		lintian: systemctl,
	},
	{
		name: "anchorhold-agent", summary: "Anchorhold: the agent of a confidential VM, and its workers",
		description: "The daemon in the guest: it attests, receives the keys of sealed models under\na lease, and answers on a unix socket. Nothing starts before the administrator\nhas written /etc/anchorhold/agent.yaml and enabled the units.",
		depends:     []string{common, "systemd"},
		files: []file{
			{"bin/anchorhold-agent", bin}, {"bin/anchorhold-worker", bin},
			{"systemd/anchorhold-agent.service", units}, {"systemd/anchorhold-agent.socket", units}, {"systemd/anchorhold-credentials.socket", units},
			{"systemd/anchorhold-agent-unlock.service", units}, {"systemd/anchorhold-volume@.service", units},
			{"systemd/anchorhold-worker@.service", units}, {"systemd/anchorhold-worker.socket", units}, {"systemd/anchorhold-worker.slice", units},
			{"systemd/anchorhold-agent.rules", "/usr/lib/udev/rules.d/70-anchorhold-agent.rules"},
			{"systemd/anchorhold-agent.service.d/*.example", "/usr/share/doc/anchorhold-agent/examples/"},
			{"systemd/anchorhold-volume@.service.d/*.example", "/usr/share/doc/anchorhold-agent/examples/volume/"},
			{"man/anchorhold-agent.8", man8}, {"man/anchorhold-worker.8", man8},
		},
		daemon: &daemon{state: "agent", units: []string{"anchorhold-agent.socket", "anchorhold-credentials.socket", "anchorhold-worker.socket", "anchorhold-agent.service"},
			lost: "the jobs and proofs that nobody has fetched, and the highest epoch of the broker that this guest has seen: a new agent accepts any from broker.minimum_epoch on. The keys of models are with the broker"},
		lintian: static + systemctl,
	},
	{
		name: "anchorhold-broker", summary: "Anchorhold: the key broker",
		description: "The daemon that holds the keys of sealed models, appraises attested guests,\nand releases keys to those that a policy names. Nothing starts before the\nadministrator has written /etc/anchorhold/broker.yaml and enabled the unit.",
		depends:     []string{common, "systemd"},
		files: []file{
			{"bin/anchorhold-broker", bin}, {"systemd/anchorhold-broker.service", units},
			{"systemd/anchorhold-broker.service.d/*.example", "/usr/share/doc/anchorhold-broker/examples/"}, {"man/anchorhold-broker.8", man8},
		},
		daemon: &daemon{state: "broker", units: []string{"anchorhold-broker.service"},
			lost: "the key store (every model key, queue key and round key in it), the broker's identity, its epochs and their floor, and the audit log. Models whose keys have no copy elsewhere can never be opened again, and every guest needs a new epoch"},
		lintian: static + systemctl,
	},
	{
		name: "anchorhold-aggregator", summary: "Anchorhold: the aggregator of federated rounds",
		description: "The daemon that adds encrypted vectors of federated rounds and holds no\nsecret. Nothing starts before the administrator has written\n/etc/anchorhold/aggregator.yaml and enabled the unit.",
		depends:     []string{common, "systemd"},
		files:       []file{{"bin/anchorhold-aggregator", bin}, {"systemd/anchorhold-aggregator.service", units}, {"man/anchorhold-aggregator.8", man8}},
		daemon: &daemon{state: "aggregator", units: []string{"anchorhold-aggregator.service"},
			lost: "the uploads of rounds that are open. It holds no key but that of its certificate, which is where aggregator.yaml says"},
		lintian: static + systemctl,
	},
	{
		name: "anchorhold-tools", summary: "Anchorhold: the command line and the verifier of proofs",
		description: "anchorhold makes identities, seals models, operates a broker and talks to an\nagent; anchorhold-verify verifies proofs without any of them. anchorhold-image\nmakes images of guests, and anchorhold-measure computes what they will measure.",
		files: []file{
			{"bin/anchorhold", bin}, {"bin/anchorhold-verify", bin}, {"bin/anchorhold-image", bin}, {"bin/anchorhold-measure", bin}, {"man/*.1", man1},
			{"bin/anchorhold-initrd", "/usr/lib/anchorhold/anchorhold-initrd"},
			{"completions/anchorhold.bash", "/usr/share/bash-completion/completions/anchorhold"},
			{"completions/anchorhold.zsh", "/usr/share/zsh/vendor-completions/_anchorhold"},
			{"completions/anchorhold.fish", "/usr/share/fish/vendor_completions.d/anchorhold.fish"},
		},
		lintian: static + otherTree,
	},
}

// TreeFiles are the files of a checkout that packages have, in the place of a release's archive.
// Programs, their pages and the notices are not among them: those are built.
func TreeFiles(tree string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for _, p := range all {
		for _, f := range p.files {
			if !strings.HasPrefix(f.from, "systemd/") && !strings.HasPrefix(f.from, "docs/") {
				continue
			}
			names, err := filepath.Glob(filepath.Join(tree, filepath.FromSlash(f.from)))
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if files[path.Join(path.Dir(f.from), filepath.Base(name))], err = os.ReadFile(name); err != nil {
					return nil, err
				}
			}
		}
	}
	return files, nil
}
