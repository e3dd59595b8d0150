package settings

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Secret is a secret at the broker that the agent hands on to other services of this guest while
// its lease lasts. Whoever is not named here gets nothing: not root, and no member of the group that
// may connect to the agent.
type Secret struct {
	// Name is what commands ask for, and the credential's name unless Credential is another.
	Name string `yaml:"name"`
	// Resource is the secret's name at the broker, below secrets/ or volumes/.
	Resource string `yaml:"resource"`
	// Credential is the name under which units load the secret: ID of LoadCredential=ID:SOCKET.
	Credential string `yaml:"credential"`
	// Units are the systemd units that may load it, by their exact names.
	Units []string `yaml:"units"`
	// Volumes are the encrypted volumes that it opens, by their names in crypttab(5). The key of one
	// whose header was not validated is not handed out.
	Volumes []string `yaml:"volumes"`
	// Users and members of Groups may ask for it with `anchorhold secret get`, if they may connect
	// to the agent's socket.
	Users  []Account `yaml:"users"`
	Groups []Account `yaml:"groups"`
}

// CredentialID is the credential's name.
func (s Secret) CredentialID() string {
	if s.Credential != "" {
		return s.Credential
	}
	return s.Name
}

// Audience says who may have the secret, in a few words.
func (s Secret) Audience() string {
	var who []string
	add := func(kind string, names []string) {
		if len(names) > 0 {
			who = append(who, kind+" "+strings.Join(names, " "))
		}
	}
	add("units", s.Units)
	add("volumes", s.Volumes)
	add("users", texts(s.Users))
	add("groups", texts(s.Groups))
	if who == nil {
		return "nobody"
	}
	return strings.Join(who, ", ")
}

func texts(list []Account) (out []string) {
	for _, a := range list {
		out = append(out, string(a))
	}
	return out
}

// Credentials is the socket on which systemd asks for secrets.
type Credentials struct {
	// Socket is the unix socket; ignored under socket activation.
	Socket string `yaml:"socket"`
	// WaitSeconds is how long units and volumes wait for a lease before they are refused; 0 is 60.
	// systemd itself waits for 90 by default.
	WaitSeconds int `yaml:"wait_seconds"`
	// Headers is the directory of validated headers of volumes, each NAME.header; by default
	// /run/anchorhold-volumes.
	Headers string `yaml:"headers"`
}

// Wait is how long units and volumes wait for a lease.
func (c Credentials) Wait() time.Duration {
	if c.WaitSeconds == 0 {
		return time.Minute
	}
	return time.Duration(c.WaitSeconds) * time.Second
}

// HeaderOf is the file with the validated header of a volume.
func (c Credentials) HeaderOf(volume string) string {
	dir := c.Headers
	if dir == "" {
		dir = "/run/anchorhold-volumes"
	}
	return filepath.Join(dir, volume+".header")
}

// Limits of what is handed on.
const (
	maxAudience = 64  // units, volumes, users or groups of one secret
	maxSecret   = 64  // bytes of a secret's or credential's name
	maxVolume   = 64  // bytes of a volume's name
	maxUnit     = 255 // bytes of a unit's name, as systemd has it
	// maxWait is a little less than a request to the local API may take.
	maxWait = 290
	// bindRoom is what a unit's and a credential's name may take together: systemd binds the
	// socket that it asks with to a name that has both, a random number and 24 more bytes.
	bindRoom = 107 - 24
)

// checkSecrets finds what is wrong with what is handed on.
func (c Config) checkSecrets(f *Findings) {
	seen := map[string]bool{}
	once := func(field, kind, name string) {
		if seen[kind+" "+name] {
			f.errorf("%s: %s %s is there twice", field, kind, name)
		}
		seen[kind+" "+name] = true
	}
	for i, s := range c.Secrets {
		field := fmt.Sprintf("secrets[%d]", i)
		if !s.check(f, field) {
			continue
		}
		f.Handed = append(f.Handed, fmt.Sprintf("%s (%s): %s", s.Name, s.Resource, s.Audience()))
		once(field+".name", "the secret", s.Name)
		for _, u := range s.Units {
			once(field+".units", "the credential", u+"/"+s.CredentialID())
		}
		for _, v := range s.Volumes {
			once(field+".volumes", "the volume", v)
		}
	}
	if n := len(c.Resources()); n > protocol.MaxResources {
		f.errorf("secrets: models, rounds and secrets need %d keys together, a lease has at most %d", n, protocol.MaxResources)
	}
	k := c.Credentials
	if len(k.Socket) > maxSocketPath {
		f.errorf("credentials.socket: a socket's path has at most %d bytes, this one has %d", maxSocketPath, len(k.Socket))
	}
	if k.WaitSeconds < 0 || k.WaitSeconds > maxWait {
		f.errorf("credentials.wait_seconds: %d is outside 1 to %d", k.WaitSeconds, maxWait)
	}
	if k.WaitSeconds > 85 {
		f.noticef("credentials.wait_seconds: units whose TimeoutStartSec= is not above %d s fail before they are refused; 90 s is the default", k.WaitSeconds)
	}
	if k.Headers != "" && !filepath.IsAbs(k.Headers) {
		f.errorf("credentials.headers: %q is not an absolute path", k.Headers)
	}
}

// check says whether the lists are short enough to go on with.
func (s Secret) check(f *Findings, field string) bool {
	for _, name := range [][2]string{{"name", s.Name}, {"credential", s.CredentialID()}} {
		if stated := name[0] == "name" || s.Credential != ""; stated && !isPlainName(name[1], maxSecret) {
			f.errorf("%s.%s: %.80q is not a name of 1 to %d letters, digits, dots, dashes and underscores that begins with a letter or digit", field, name[0], name[1], maxSecret)
		}
	}
	if !protocol.ValidResource(s.Resource) || !protocol.ForServices(s.Resource) {
		f.errorf("%s.resource: %.140q is not a resource below secrets/ or volumes/: nothing else is handed on", field, s.Resource)
	}
	if len(s.Units) > maxAudience || len(s.Volumes) > maxAudience || len(s.Users) > maxAudience || len(s.Groups) > maxAudience {
		f.errorf("%s: at most %d units, volumes, users and groups each", field, maxAudience)
		return false
	}
	for _, u := range s.Units {
		switch room := bindRoom - len(s.CredentialID()); {
		case !isUnit(u):
			f.errorf("%s.units: %.80q is not the full name of a service, socket, mount or swap unit, such as nginx.service", field, u)
		case len(u) > room:
			f.errorf("%s.units: %s and the credential's name are too long together for systemd to ask for it: %d bytes, the limit is %d", field, u, len(u)+len(s.CredentialID()), bindRoom)
		}
	}
	for _, v := range s.Volumes {
		if !isPlainName(v, maxVolume) {
			f.errorf("%s.volumes: %.80q is not a volume's name: letters, digits, dots, dashes and underscores", field, v)
		}
	}
	if _, _, err := s.Accounts(); err != nil {
		f.errorf("%s: %v", field, err)
	}
	if s.Audience() == "nobody" {
		f.noticef("%s: %s is handed to nobody: name units, volumes, users or groups", field, s.Name)
	}
	return true
}

// Accounts are the users and groups that may ask for the secret, by number.
func (s Secret) Accounts() (uids, gids []uint32, err error) {
	var errs []error
	for _, a := range s.Users {
		uid, err := a.UID()
		uids, errs = append(uids, uid), append(errs, err)
	}
	for _, a := range s.Groups {
		gid, err := a.GID()
		gids, errs = append(gids, gid), append(errs, err)
	}
	return uids, gids, errors.Join(errs...)
}

// isPlainName says whether a name can be a credential's, a file's and a volume's alike.
func isPlainName(name string, most int) bool {
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && strings.IndexByte("._-", c) >= 0:
		default:
			return false
		}
	}
	return name != "" && len(name) <= most
}

// isUnit says whether a name is that of one unit that can load credentials (systemd.unit(5)): no
// pattern, and of a template an instance.
func isUnit(name string) bool {
	base, kind, ok := cutLast(name, '.')
	if !ok || base == "" || len(name) > maxUnit || strings.HasPrefix(base, "@") || strings.HasSuffix(base, "@") {
		return false
	}
	switch kind {
	case "service", "socket", "mount", "swap":
	default:
		return false
	}
	for _, c := range []byte(base) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(":-_.\\@", c) >= 0) {
			return false
		}
	}
	return true
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}
