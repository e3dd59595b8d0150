package volume

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/anchorhold/anchorhold/keybroker/generation"
	"github.com/anchorhold/anchorhold/systemd/config"
)

// Where a key comes from.
const (
	// KeyBroker: the broker releases it to the attested agent.
	KeyBroker = "broker"
	// KeyBoot: it is random and lives for one boot; so does what is on the volume.
	KeyBoot = "boot"
	// KeyCrypttab: systemd-cryptsetup asks the agent for it and opens the volume, by the validated header that
	// is written here. The volume has no generations.
	KeyCrypttab = "crypttab"
)

// Limits of the configuration.
const (
	maxConfigBytes = 64 << 10
	maxVolumes     = 16
	maxName        = 64
	maxPath        = 255
)

// Config is the file with the volumes of a guest, which is measured with the image: /etc/anchorhold/volumes.yaml.
type Config struct {
	// Volumes are the guest's.
	Volumes []Volume `yaml:"volumes"`
}

// Volume is one encrypted volume.
type Volume struct {
	// Name is the volume's: that of its unit's instance, of its device below /dev/mapper
	// (anchorhold-NAME), and of its generations at the broker (volumes/NAME).
	Name string `yaml:"name"`
	// Device is the block device that the host gave, by a name that the host cannot make ambiguous:
	// below /dev/disk/by-partlabel or /dev/disk/by-id, or /dev/vdb.
	Device string `yaml:"device"`
	// Mount is where it is mounted; with KeyCrypttab, others see to that.
	Mount string `yaml:"mount"`
	// Key is KeyBroker, KeyBoot or KeyCrypttab.
	Key string `yaml:"key"`
	// Agent is the socket of the agent that has the key; by default /run/anchorhold/agent.sock.
	Agent string `yaml:"agent"`
	// Secret is the agent's name for the key, by default that of the volume. The agent's configuration
	// must have it as the resource volumes/NAME, with root among its users.
	Secret string `yaml:"secret"`
	// FormatIfEmpty has a device whose first MiB is zero formatted at the first use. Any other device is
	// never formatted. A volume with a key for one boot needs it.
	FormatIfEmpty bool `yaml:"format_if_empty"`
	// PermitUnauthenticated accepts a volume, made elsewhere, whose sectors are encrypted with AES-XTS alone:
	// the host can change each of them unnoticed, to noise or to what it was before.
	PermitUnauthenticated bool `yaml:"permit_unauthenticated"`
	// WaitSeconds is how long to wait for the key; 0 is 60.
	WaitSeconds int `yaml:"wait_seconds"`
}

const (
	defaultAgent = "/run/anchorhold/agent.sock"
	defaultWait  = 60
	maxWait      = 290
)

// ReadConfig reads and checks the file.
func ReadConfig(path string) (Config, error) {
	raw, err := config.ReadFile(path, maxConfigBytes)
	if err != nil {
		return Config{}, err
	}
	var c Config
	if err := config.Decode(raw, &c); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Find returns a volume with its defaults.
func (c Config) Find(name string) (Volume, error) {
	for _, v := range c.Volumes {
		if v.Name != name {
			continue
		}
		if v.Agent == "" {
			v.Agent = defaultAgent
		}
		if v.Secret == "" {
			v.Secret = v.Name
		}
		if v.WaitSeconds == 0 {
			v.WaitSeconds = defaultWait
		}
		return v, nil
	}
	return Volume{}, fmt.Errorf("no volume is called %.80q", name)
}

func (c Config) check() error {
	if len(c.Volumes) == 0 || len(c.Volumes) > maxVolumes {
		return fmt.Errorf("volumes: got %d, want 1 to %d", len(c.Volumes), maxVolumes)
	}
	var errs []error
	seen := map[string]bool{}
	for i, v := range c.Volumes {
		at := fmt.Sprintf("volumes[%d]", i)
		for _, err := range v.check() {
			errs = append(errs, fmt.Errorf("%s.%w", at, err))
		}
		for _, one := range []string{"name " + v.Name, "device " + v.Device, "mount " + v.Mount} {
			if seen[one] && one != "mount " {
				errs = append(errs, fmt.Errorf("%s: the %s is there twice", at, one))
			}
			seen[one] = true
		}
	}
	return errors.Join(errs...)
}

func (v Volume) check() (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(v.Name) > maxName || strings.Contains(v.Name, "/") || !generation.ValidVolume(generation.Class+"/"+v.Name) {
		bad("name: %.80q is not a name of lower-case letters, digits, dots, dashes and underscores", v.Name)
	}
	paths := []struct{ field, path string }{{"device", v.Device}, {"mount", v.Mount}}
	if v.Key == KeyCrypttab {
		paths = paths[:1]
		if v != (Volume{Name: v.Name, Device: v.Device, Key: v.Key}) {
			bad("key: a volume of crypttab has a name and a device here, and nothing else")
		}
	}
	for _, p := range paths {
		if !filepath.IsAbs(p.path) || filepath.Clean(p.path) != p.path || p.path == "/" || len(p.path) > maxPath {
			bad("%s: %.80q is not an absolute path below / in its shortest form", p.field, p.path)
		}
	}
	if filepath.IsAbs(v.Device) && !strings.HasPrefix(v.Device, "/dev/") {
		bad("device: %.80q is not below /dev", v.Device)
	}
	switch {
	case v.Key != KeyBroker && v.Key != KeyBoot && v.Key != KeyCrypttab:
		bad("key: got %.20q, want %s, %s or %s", v.Key, KeyBroker, KeyBoot, KeyCrypttab)
	case v.Key == KeyBoot && v.PermitUnauthenticated:
		bad("permit_unauthenticated: what is formatted at each boot is authenticated")
	case v.Key == KeyBoot && (v.Agent != "" || v.Secret != ""):
		bad("key: a key for one boot comes from no agent")
	case v.Key == KeyBoot && !v.FormatIfEmpty:
		bad("format_if_empty: a volume with a key for one boot is formatted at each boot; write format_if_empty: true")
	}
	if v.Agent != "" && !filepath.IsAbs(v.Agent) {
		bad("agent: %.80q is not an absolute path", v.Agent)
	}
	if len(v.Secret) > maxName || strings.ContainsAny(v.Secret, "/?#%") {
		bad("secret: %.80q is no secret's name", v.Secret)
	}
	if v.WaitSeconds < 0 || v.WaitSeconds > maxWait {
		bad("wait_seconds: %d is outside 1 to %d", v.WaitSeconds, maxWait)
	}
	return errs
}
