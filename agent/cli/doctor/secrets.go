package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/agent/settings"
)

// The words of the findings about secrets that the agent hands on.
const (
	secretsCheck          = "secrets"
	secretsNone           = "none is handed on to other services"
	secretsUnread         = "/etc/anchorhold/agent.yaml cannot be read, or is not understood: %v"
	secretsUnreadAdvice   = "anchorhold-agent check /etc/anchorhold/agent.yaml, as a user who may read it"
	secretsFound          = "%d handed on; each unit and volume asks for its own. Whether the broker's policy grants them, only the agent's journal says"
	secretsNoUnit         = "%s may have the secret %s, and there is no such unit"
	secretsNoUnitAdvice   = "correct secrets: in /etc/anchorhold/agent.yaml, or install the package with the unit; names are exact (systemctl list-unit-files)"
	secretsUnasked        = "%s may have the secret %s, and does not ask for it"
	secretsUnaskedAdvice  = "a drop-in with [Service] LoadCredential=%s:%s, and After=anchorhold-credentials.socket (docs/operations.md, \"Secrets for other services\")"
	secretsNoVolume       = "the volume %s may have the secret %s, and /etc/crypttab does not open it with that"
	secretsNoVolumeAdvice = "a line in /etc/crypttab whose name is %s and whose key file is %s; anchorhold-volume@.service needs none"
	secretsSocket         = "anchorhold-credentials.socket is not enabled"
	secretsSocketAdvice   = "systemctl enable anchorhold-credentials.socket: until the agent has started, units that ask for secrets fail"
)

const (
	credentialsSocket = "/run/anchorhold/credentials.sock"
	credentialsUnit   = "anchorhold-credentials.socket"
)

// examineSecrets looks for those who may have the agent's secrets: whether they are there, and ask for them where it
// answers. What the broker grants, nobody knows before the agent has attested.
func examineSecrets(root string) []finding {
	cfg, _, err := settings.Read(filepath.Join(root, "etc/anchorhold/agent.yaml"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return []finding{{secretsCheck, "note", fmt.Sprintf(secretsUnread, err), secretsUnreadAdvice}}
	}
	if len(cfg.Secrets) == 0 {
		return []finding{{Check: secretsCheck, Verdict: "ok", Found: secretsNone}}
	}
	sockets := []string{credentialsSocket}
	if cfg.Credentials.Socket != "" {
		sockets = append(sockets, cfg.Credentials.Socket)
	}
	var list []finding
	asked := false
	for _, s := range cfg.Secrets {
		asked = asked || len(s.Units)+len(s.Volumes) > 0
		for _, unit := range s.Units {
			text, exists := unitText(root, unit)
			switch id := s.CredentialID(); {
			case !exists:
				list = append(list, finding{secretsCheck, "lacking", fmt.Sprintf(secretsNoUnit, unit, s.Name), secretsNoUnitAdvice})
			case !loads(text, id, sockets):
				list = append(list, finding{secretsCheck, "lacking", fmt.Sprintf(secretsUnasked, unit, s.Name), fmt.Sprintf(secretsUnaskedAdvice, id, sockets[len(sockets)-1])})
			}
		}
		for _, volume := range s.Volumes {
			if !opens(root, volume, sockets) {
				list = append(list, finding{secretsCheck, "note", fmt.Sprintf(secretsNoVolume, volume, s.Name), fmt.Sprintf(secretsNoVolumeAdvice, volume, sockets[len(sockets)-1])})
			}
		}
	}
	if asked && cfg.Credentials.Socket == "" && !enabled(root) {
		list = append(list, finding{secretsCheck, "note", secretsSocket, secretsSocketAdvice})
	}
	if len(list) == 0 {
		list = append(list, finding{Check: secretsCheck, Verdict: "ok", Found: fmt.Sprintf(secretsFound, len(cfg.Secrets))})
	}
	return list
}

// unitDirectories are where systemd finds units, the first before the others (systemd.unit(5)).
func unitDirectories() []string {
	return []string{"etc/systemd/system", "run/systemd/system", "run/systemd/generator", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system", "run/systemd/generator.late"}
}

// unitText is what the files of a unit say: its own or its template's, and behind it the drop-ins in their order.
func unitText(root, unit string) (text string, exists bool) {
	names := []string{unit}
	if at := strings.IndexByte(unit, '@'); at >= 0 {
		names = append(names, unit[:at+1]+path.Ext(unit))
	}
	dropIns := map[string]string{} // by the name of the file; the first directory wins
	for _, name := range names {
		for _, dir := range unitDirectories() {
			if data, err := os.ReadFile(filepath.Join(root, dir, name)); err == nil && !exists {
				text, exists = string(data), true
			}
			files, err := filepath.Glob(filepath.Join(root, dir, name+".d", "*.conf"))
			if err != nil {
				continue // a name with the signs of a pattern: there is none such, settings refuses them
			}
			for _, file := range files {
				data, err := os.ReadFile(file)
				if base := filepath.Base(file); err == nil && dropIns[base] == "" {
					dropIns[base] = string(data)
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dropIns)) {
		text += "\n" + dropIns[name]
	}
	return text, exists
}

// loads says whether a unit loads a credential from one of the sockets.
func loads(text, id string, sockets []string) bool {
	found := false
	for line := range strings.Lines(text) {
		value, is := strings.CutPrefix(strings.TrimSpace(line), "LoadCredential=")
		if !is {
			continue
		}
		switch name, from, _ := strings.Cut(strings.TrimSpace(value), ":"); {
		case name == "": // forgets those before it
			found = false
		case name == id && slices.Contains(sockets, from):
			found = true
		}
	}
	return found
}

// opens says whether crypttab opens a volume with the agent's key.
func opens(root, volume string, sockets []string) bool {
	data, err := os.ReadFile(filepath.Join(root, "etc/crypttab"))
	if err != nil {
		return false
	}
	const name, key = 0, 2
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > key && f[name] == volume && slices.Contains(sockets, f[key]) {
			return true
		}
	}
	return false
}

// enabled says whether a target wants the socket. The link itself counts: what it names lies elsewhere in an image.
func enabled(root string) bool {
	for _, dir := range unitDirectories() {
		if found, err := filepath.Glob(filepath.Join(root, dir, "*.target.wants", credentialsUnit)); err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}
