package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/packaging/canary"
)

// What the guest's other services have while it is audited: one has a secret as a credential, and an encrypted volume
// is open. Both outlive the lease that brought them.

const (
	holderUnit   = "holder.service"
	diskUnit     = "anchorhold-volume@data.service"
	auditedMount = "/srv/data"
)

// auditedServices is a part of the agent's configuration.
const auditedServices = `secrets:
  - {name: service.key, resource: secrets/service, units: [` + holderUnit + `]}
  - {name: data, resource: volumes/data, users: [root]}
`

const auditedVolumes = "volumes:\n  - {name: data, device: " + dataDisk + ", mount: " + auditedMount + ", key: broker, format_if_empty: true}\n"

const auditedHolder = `[Service]
LoadCredential=service.key:` + credentialSocket + `
ExecStart=/usr/bin/sleep infinity
`

// makeServiceSecrets makes what the broker holds for services, and a text for a file of the volume.
func (x *auditor) makeServiceSecrets(ctx context.Context, halves string) ([]canary.Canary, error) {
	secret, content := words(150), words(300)
	if err := os.WriteFile(x.at("service.key"), []byte(secret), 0o600); err != nil {
		return nil, err
	}
	if _, err := x.tool(ctx, "keygen", "credential", "--out", x.at("volume.key")); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(x.at("volume.key"))
	if err != nil {
		return nil, err
	}
	return []canary.Canary{canary.Text(assetServiceSecret, secret), canary.Bytes(assetVolumeKey, key), canary.Text(assetVolumeFile, content)},
		halve(halves, "file", []byte(content), random(len(content)))
}

// storeServiceSecrets gives them to the broker.
func (x *auditor) storeServiceSecrets(ctx context.Context) error {
	for name, file := range map[string]string{"secrets/service": "service.key", "volumes/data": "volume.key"} {
		if _, err := x.operate(ctx, "secret", "put", name, "--file", x.at(file)); err != nil {
			return err
		}
	}
	return nil
}

// startServices has them ask for their secrets, and puts a file into the volume. The keys that cryptsetup drew for its sectors
// are canaries from then on.
func (x *auditor) startServices(ctx context.Context) error {
	if err := x.in("systemctl start "+holderUnit, "systemctl start "+diskUnit, "/usr/local/sbin/boottest -part store"); err != nil {
		return err
	}
	keys, err := x.sectorKeys(ctx)
	if err != nil {
		return fmt.Errorf("the keys of the volume's sectors: %w", err)
	}
	return x.index.Add(canary.Bytes(assetSectorKeys, keys))
}

// sectorKeys reads them as whoever has the volume's key and its header can.
func (x *auditor) sectorKeys(ctx context.Context) ([]byte, error) {
	key, keys := x.work.Path("volume.key"), x.work.Path("sector.keys")
	defer os.Remove(key)
	defer os.Remove(keys)
	if err := copyFile(x.at("volume.key"), key, 0o600); err != nil {
		return nil, err
	}
	if _, err := x.work.Tool(ctx, "cryptsetup", "luksDump", "--batch-mode", "--disable-locks", "--dump-volume-key", "--volume-key-file", x.work.Inside("sector.keys"),
		"--key-file", x.work.Inside("volume.key"), x.work.Inside("data.raw")); err != nil {
		return nil, err
	}
	return os.ReadFile(keys)
}

// stopServices ends both.
func (x *auditor) stopServices() error { return x.in("systemctl stop " + holderUnit + " " + diskUnit) }

// store writes the file in the volume.
func store() error {
	content, err := join(halvesDir, "file")
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(auditedMount, "file"))
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Sync(), f.Close())
}
