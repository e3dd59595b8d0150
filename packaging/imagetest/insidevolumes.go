package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// volumeFindings are what the guest says of its volumes once that of the state is mounted.
type volumeFindings struct {
	// Mounts are the mount points of encrypted volumes, with the device's name.
	Mounts map[string]string `json:"mounts"`
	// Tables are the device mapper's, without keys.
	Tables string `json:"tables"`
	// Kept are the agent's files that are older than this boot.
	Kept []string `json:"kept"`
	// Left is what an earlier boot left on the volume that lives for one boot.
	Left []string `json:"left"`
}

func volumeUnit(name string) string { return "anchorhold-volume@" + name + ".service" }

// awaitVolume waits until the volume of the state is mounted or refused, and says which, and which files of the agent's are older than
// this boot. After a refusal it tries the forged volume.
func (r *reporter) awaitVolume() (older []string, mounted bool) {
	for look := 0; ; look++ {
		mounts, err := encryptedMounts()
		if err == nil && mounts[stateMount] != "" {
			return r.sayVolumes(), true
		}
		// A program costs an emulated processor more than a question does.
		if look%4 == 0 && exec.Command("systemctl", "is-failed", "--quiet", volumeUnit(stateVolume)).Run() == nil {
			r.say(foundVolumes, nil, errors.New("refused"))
			out, err := exec.Command("systemctl", "start", volumeUnit(forgedVolume)).CombinedOutput()
			r.say(foundForged, out, err)
			return nil, false
		}
		r.sayStatus(unlockSocket)
		time.Sleep(pause)
	}
}

// sayVolumes waits for the volume of one boot as well, and leaves a file there.
func (r *reporter) sayVolumes() (older []string) {
	// It starts by itself; this waits for its end.
	out, err := exec.Command("systemctl", "start", volumeUnit(scratchVolume)).CombinedOutput()
	if err != nil {
		err = errors.Join(err, errors.New(string(out)))
	}
	mounts, merr := encryptedMounts()
	tables, terr := exec.Command("dmsetup", "table").CombinedOutput()
	kept, kerr := olderThanBoot(filepath.Join(stateMount, "agent"))
	left, lerr := filepath.Glob(filepath.Join(scratchMount, "left*"))
	err = errors.Join(err, merr, terr, kerr, lerr, os.WriteFile(filepath.Join(scratchMount, "left"), nil, 0o600))
	text, jerr := json.Marshal(volumeFindings{mounts, string(tables), kept, left})
	r.say(foundVolumes, text, errors.Join(err, jerr))
	return kept
}

// encryptedMounts are the mount points of devices of the device mapper.
func encryptedMounts() (map[string]string, error) {
	text, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[0], "/dev/mapper/anchorhold-") {
			found[fields[1]] = fields[0]
		}
	}
	return found, nil
}

// olderThanBoot are the files below a directory that were written before this boot began. One that is not there has none.
func olderThanBoot(dir string) (names []string, err error) {
	began := time.Now().Add(-time.Duration(uptime() * float64(time.Second)))
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the agent replaced it
		}
		if err == nil && info.ModTime().Before(began) {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	return names, err
}
