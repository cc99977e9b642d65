// Reads a repository as go-tuf v2 reads it, and prints what it found as one JSON object:
//
//	go-tuf-reader METADATA_URL TARGETS_URL FOLDER PATH...
//
// FOLDER/metadata holds the client's cache (at first: root.json), FOLDER/targets gets the targets.
// Exit 3: go-tuf refuses; its error stands on stderr.
//
// With -runs N it prints instead how many milliseconds each of N runs took after a first one: with -cold each in a
// cache of its own, FOLDER/cache-I, otherwise all in FOLDER/cache. Each cache starts from FOLDER/root.json.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

type found struct {
	Root    int64             `json:"root"`
	Targets map[string][]byte `json:"targets"`
}

func main() {
	runs := flag.Int("runs", 0, "measure so many runs")
	cold := flag.Bool("cold", false, "measure with empty caches")
	flag.Parse()
	if flag.NArg() < 3 {
		fmt.Fprintln(os.Stderr, "usage: go-tuf-reader [-runs N [-cold]] METADATA_URL TARGETS_URL FOLDER PATH...")
		os.Exit(2)
	}
	var answer any
	var err error
	if *runs > 0 {
		answer, err = measure(*runs, *cold, flag.Args())
	} else {
		answer, err = read(flag.Arg(0), flag.Arg(1), flag.Arg(2), flag.Args()[3:])
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answer)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
}

func measure(runs int, cold bool, args []string) ([]float64, error) {
	root, err := os.ReadFile(filepath.Join(args[2], "root.json"))
	if err != nil {
		return nil, err
	}
	times := []float64{}
	for run := 0; run <= runs; run++ {
		folder := filepath.Join(args[2], "cache")
		if cold {
			folder = fmt.Sprintf("%s-%d", folder, run)
		}
		begun := time.Now()
		if err := begin(folder, root); err != nil {
			return nil, err
		}
		if _, err := read(args[0], args[1], folder, args[3:]); err != nil {
			return nil, err
		}
		times = append(times, float64(time.Since(begun).Microseconds())/1000)
	}
	return times[1:], nil
}

func begin(folder string, root []byte) error {
	for _, name := range []string{"metadata", "targets"} {
		if err := os.MkdirAll(filepath.Join(folder, name), 0o700); err != nil {
			return err
		}
	}
	file := filepath.Join(folder, "metadata", "root.json")
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	return os.WriteFile(file, root, 0o600)
}

func read(metadataURL, targetsURL, folder string, paths []string) (*found, error) {
	cache := filepath.Join(folder, "metadata")
	root, err := os.ReadFile(filepath.Join(cache, "root.json"))
	if err != nil {
		return nil, err
	}
	options, err := config.New(metadataURL, root)
	if err != nil {
		return nil, err
	}
	options.LocalMetadataDir = cache
	options.LocalTargetsDir = filepath.Join(folder, "targets")
	options.RemoteTargetsURL = targetsURL
	client, err := updater.New(options)
	if err != nil {
		return nil, err
	}
	if err := client.Refresh(); err != nil {
		return nil, err
	}
	answer := &found{Root: client.GetTrustedMetadataSet().Root.Signed.Version, Targets: map[string][]byte{}}
	for _, path := range paths {
		target, err := client.GetTargetInfo(path)
		if err != nil {
			return nil, err
		}
		// A target that was downloaded before is taken from the disk, as go-tuf's own examples do.
		local := filepath.Join(options.LocalTargetsDir, url.QueryEscape(path))
		_, data, err := client.FindCachedTarget(target, local)
		if err == nil && data == nil {
			_, data, err = client.DownloadTarget(target, local, "")
		}
		if err != nil {
			return nil, err
		}
		answer.Targets[path] = data
	}
	return answer, nil
}
